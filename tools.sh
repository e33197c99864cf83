#!/bin/sh
# Unpacks the programs that tests ask for into .tools/ where the system has none: nginx and promtool, which check the files under config/,
# PostgreSQL, a database to test with, and Chromium with its driver and two fonts, in which pages are tested. Where npm is, it also gets an MCP
# server package, which a test starts with npx; and the models of the offline default, which tests of speech hear and speak with.
# `make tools` calls this.
# Nothing is installed or started, and root is not needed. The packages are Debian's; other systems are told what to install.
set -eu
cd "$(dirname "$0")"

fail() {
    printf 'tools: %s\n' "$*" >&2
    exit 1
}

# Where tests/ops/programs.py and tests/databases.py look, too. Whoever has a chromedriver has the browser of its version.
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

# The tests that need them say how to get them where they could not be had; on the build machine (CI) they fail.
.venv/bin/python server.py models fetch default --into .tools/models || printf 'tools: tests of open speech are skipped\n'

missing=
for program in nginx promtool postgres chromedriver; do
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

# libraries PACKAGE: what it needs, directly or through others, and the system has not.
libraries() {
    apt apt-get --simulate --no-install-recommends install "$1" | sed -n 's/^Inst \(lib[^ ]*\) .*/\1/p'
}

# offer PROGRAM FILE [VARIABLE=VALUE...]: makes .tools/bin/PROGRAM, which starts an unpacked file with the unpacked libraries.
offer() {
    program=$1 file=$PWD/.tools/debian/$2
    [ -x "$file" ] || fail "$2 is not in what was unpacked"
    shift 2
    libraries=$(find "$PWD/.tools/debian" -name '*.so*' -exec dirname {} + | sort -u | paste -sd: -)
    if LD_LIBRARY_PATH=$libraries ldd "$file" | grep 'not found'; then fail "$program needs these libraries, and apt did not name them"; fi
    printf '#!/bin/sh\nexec env LD_LIBRARY_PATH=%s %s %s "$@"\n' "$libraries" "$*" "$file" >".tools/bin/$program"
    chmod +x ".tools/bin/$program"
}

here=$PWD/.tools/apt
rm -rf "$here"
mkdir -p "$here/lists/partial" "$here/cache/archives/partial" .tools/bin
apt apt-get update || fail "the package lists could not be had"
# shellcheck disable=SC2046
for program in $missing; do
    case $program in
    nginx)
        unpack nginx $(libraries nginx)
        offer nginx usr/sbin/nginx
        ;;
    promtool)
        unpack prometheus $(libraries prometheus)
        offer promtool usr/bin/promtool
        ;;
    postgres)
        version=$(apt apt-cache depends postgresql | sed -n 's/^ *Depends: postgresql-\([0-9]*\)$/\1/p')
        unpack "postgresql-$version" $(libraries "postgresql-$version")
        offer postgres "usr/lib/postgresql/$version/bin/postgres"
        offer initdb "usr/lib/postgresql/$version/bin/initdb"
        ;;
    chromedriver)
        # The browser without a window: a quarter smaller, and it asks for no desktop. The driver's package asks for the one with it.
        shell=chromium-headless-shell
        unpack $shell chromium-common chromium-driver fonts-dejavu-core fonts-wqy-microhei $(libraries $shell)
        # These fonts and no others: a page looks alike on all machines.
        printf '<fontconfig><dir>%s</dir><cachedir>%s</cachedir>%s</fontconfig>\n' "$PWD/.tools/debian/usr/share/fonts" "$PWD/.tools/fonts" \
            '<alias><family>system-ui</family><prefer><family>DejaVu Sans</family><family>WenQuanYi Micro Hei</family></prefer></alias>
            <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family><family>WenQuanYi Micro Hei</family></prefer></alias>
            <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family><family>WenQuanYi Micro Hei Mono</family></prefer></alias>' \
            >.tools/fonts.conf
        offer $shell usr/lib/chromium/$shell "FONTCONFIG_FILE=$PWD/.tools/fonts.conf"
        offer chromedriver usr/bin/chromedriver
        ;;
    esac
done
rm -rf "$here"
