#!/bin/sh
# Unpacks the programs that tests ask for into .tools/ where the system has none: nginx and promtool, which check the files under config/, and
# PostgreSQL, a database to test with. Where npm is, it also gets an MCP server package, which a test starts with npx. `make tools` calls this.
# Nothing is installed or started, and root is not needed. The packages are Debian's; other systems are told what to install.
set -eu
cd "$(dirname "$0")"

fail() {
    printf 'tools: %s\n' "$*" >&2
    exit 1
}

# Where tests/ops/programs.py and tests/databases.py look, too.
is_there() {
    PATH="$PATH:/usr/sbin:/sbin:$(echo /usr/lib/postgresql/*/bin | tr ' ' :):$PWD/.tools/bin" command -v "$1" >/dev/null 2>&1
}

NPM_SERVER=@modelcontextprotocol/server-filesystem@2026.8.31
if ! command -v npm >/dev/null 2>&1; then
    printf 'tools: no npm here: the test with an MCP server package of npm is skipped\n'
elif [ ! -d ".tools/npm/node_modules/${NPM_SERVER%@*}" ]; then
    printf 'tools: installing %s into .tools/npm\n' "$NPM_SERVER"
    npm install --prefix .tools/npm --ignore-scripts --no-audit --no-fund --silent "$NPM_SERVER" || fail "npm could not install $NPM_SERVER"
fi

missing=
for program in nginx promtool postgres; do
    is_there "$program" || missing="$missing $program"
done
if [ -z "$missing" ]; then exit 0; fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    fail "not here:$missing; install them with this system's package manager (promtool is part of Prometheus)"
fi

# apt TOOL ...: everything it reads and writes is below .tools, because the system's own lists may be old, absent or root's.
apt() {
    tool=$1
    shift
    "$tool" --quiet=2 -o Dir::State::Lists="$here/lists" -o Dir::Cache="$here/cache" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User="$(id -un)" "$@"
}

# unpack PACKAGE...: into .tools/debian.
unpack() {
    printf 'tools: unpacking %s into .tools\n' "$*"
    (cd "$here" && apt apt-get download "$@") || fail "could not download $*"
    for package in "$here"/*.deb; do
        dpkg-deb --extract "$package" .tools/debian
        rm "$package"
    done
}

# offer PROGRAM PACKAGE: makes .tools/bin/PROGRAM, which starts the unpacked one with the libraries it needs.
offer() {
    unpack "$2"
    program=$(find "$PWD/.tools/debian" -path "*bin/$1" -type f)
    libraries=
    if ldd "$program" | grep -q 'not found'; then
        # shellcheck disable=SC2046
        unpack $(apt apt-cache depends "$2" | sed -n 's/^ *Depends: \(lib.*\)/\1/p' | grep -vx libc6)
        libraries=$(find "$PWD/.tools/debian" -name '*.so.*' -exec dirname {} + | sort -u | paste -sd: -)
    fi
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$program" >".tools/bin/$1"
    chmod +x ".tools/bin/$1"
}

here=$PWD/.tools/apt
rm -rf "$here"
mkdir -p "$here/lists/partial" "$here/cache/archives/partial" .tools/bin
apt apt-get update || fail "the package lists could not be had"
for program in $missing; do
    case $program in
    promtool) offer promtool prometheus ;;
    postgres)
        offer postgres "$(apt apt-cache depends postgresql | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p')"
        sed 's|/bin/postgres |/bin/initdb |' .tools/bin/postgres >.tools/bin/initdb
        chmod +x .tools/bin/initdb
        ;;
    *) offer "$program" "$program" ;;
    esac
done
rm -rf "$here"
