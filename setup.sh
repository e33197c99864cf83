#!/bin/sh
# Sets up everything the server needs in .venv, and nothing twice: `make setup` (or `make test`, which adds --dev) calls this.
#
#   setup.sh          what the server needs
#   setup.sh --dev    also what tests, checks and load tests need
#
# PYTHON=/path/to/python chooses the interpreter (3.11 or newer) for a new virtual environment.
set -eu
cd "$(dirname "$0")"

wanted=requirements.txt
stamp=.venv/.set-up
if [ "${1:-}" = --dev ]; then
    wanted=requirements-dev.txt
    stamp=.venv/.set-up-dev
fi

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Two terminals may start `make run` and `make talk` at once: the second waits for the first.
if command -v flock >/dev/null 2>&1; then
    exec 9<setup.sh
    flock 9
fi

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed: install it (Debian, Ubuntu: apt-get install python3 python3-venv) or set PYTHON=/path/to/it"
}

make_venv() {
    python=$(find_python) || exit 1
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)"
    printf 'setup: creating .venv with %s (%s)\n' "$python" "$("$python" --version)"
    "$python" -m venv --clear .venv
}

# A moved tree or an upgraded Python leaves a .venv that does not start.
{ [ -x .venv/bin/python ] && is_new_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; } || make_venv

install_requirements() {
    # Everything the outcome depends on. Python does the hashing because no such command is everywhere.
    now=$(.venv/bin/python - "$wanted" requirements.txt <<'PYTHON'
import hashlib, platform, sys
digest = hashlib.sha256(f"{sys.version} {platform.machine()} {sys.prefix}".encode())
for name in sys.argv[1:]:
    digest.update(open(name, "rb").read())
print(digest.hexdigest())
PYTHON
    )
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then
        return
    fi
    printf 'setup: installing the packages of %s (the first time this takes a few minutes)\n' "$wanted"
    rm -f "$stamp"
    quiet=--quiet
    if [ -t 1 ]; then quiet=; fi
    # shellcheck disable=SC2086
    .venv/bin/python -m pip install --disable-pip-version-check $quiet -r "$wanted" ||
        fail "pip could not install $wanted (see above); \`make setup\` goes on where it stopped"
    printf '%s\n' "$now" >"$stamp"
}

has_opus() {
    .venv/bin/python -c 'import ctypes.util as u, sys; sys.exit(not u.find_library("opus"))'
}

install_opus() {
    sudo=
    if [ "$(id -u)" != 0 ]; then sudo="sudo "; fi
    if command -v apt-get >/dev/null 2>&1; then
        install="${sudo}apt-get install -y --no-install-recommends libopus0"
        refresh="${sudo}apt-get update"
    elif command -v dnf >/dev/null 2>&1; then
        install="${sudo}dnf install -y opus"
    elif command -v yum >/dev/null 2>&1; then
        install="${sudo}yum install -y opus"
    elif command -v apk >/dev/null 2>&1; then
        install="${sudo}apk add opus"
    elif command -v pacman >/dev/null 2>&1; then
        install="${sudo}pacman -S --noconfirm opus"
    elif command -v zypper >/dev/null 2>&1; then
        install="${sudo}zypper --non-interactive install libopus0"
    elif command -v brew >/dev/null 2>&1; then
        sudo=
        install="brew install opus"
    else
        fail "the Opus library is missing: install libopus with your system's package manager, then run this again"
    fi
    if [ -n "$sudo" ] && ! sudo -n true 2>/dev/null; then
        fail "the Opus library is missing: run  $install  and then this again"
    fi
    printf 'setup: the Opus library is missing; running: %s\n' "$install"
    # A fresh image has no package lists yet, hence the second try.
    $install >/dev/null 2>&1 || { ${refresh:-true} >/dev/null && $install >/dev/null; } || true
    has_opus || fail "the Opus library is still missing: run  $install  by hand, then this again"
}

# Checkers of the files under config/, for the tests only: nginx -t and promtool. Without them those tests are left out (but not in CI).
install_checkers() {
    missing=
    command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
    command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
    if [ -z "$missing" ] || ! command -v apt-get >/dev/null 2>&1; then return; fi
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || return 0
        sudo=sudo
    fi
    printf 'setup: installing checkers for the tests:%s\n' "$missing"
    # RUNLEVEL=1: they are wanted as commands, their daemons must not start.
    # shellcheck disable=SC2086
    install="$sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing"
    # shellcheck disable=SC2086
    $install >/dev/null 2>&1 || { $sudo apt-get update >/dev/null 2>&1 && $install >/dev/null 2>&1; } ||
        printf 'setup: could not install%s; the tests that need them are left out\n' "$missing" >&2
}

install_requirements
has_opus || install_opus
if [ "${1:-}" = --dev ]; then install_checkers; fi
