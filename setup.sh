#!/bin/sh
# Makes .venv with everything the server needs, and nothing twice. Nothing outside this directory is changed.
#
#   setup.sh            what the server needs, and what recognises Chinese and English speech here (make setup)
#   setup.sh --minimal  without the latter (make setup WITH=minimal)
#   setup.sh --NAME...  and the packages of requirements-NAME.txt (make setup WITH="NAME ..."): torch for the voice detector's
#                       `runtime: torch`; sherpa, vosk, funasr for models that run on this machine
#   setup.sh --dev      and what tests, checks and load tests need, PyTorch included (make test, lint, bench, loadtest)
#
# PYTHON=/path/to/python chooses the interpreter (3.11 or newer) for a new virtual environment.
set -eu
cd "$(dirname "$0")"

say() {
    printf 'setup: %s\n' "$*" >&2
}

fail() {
    say "$*"
    exit 1
}

dev= extras= minimal= known=" $(ls requirements-*.txt | sed 's/^requirements-\(.*\)\.txt$/\1/' | tr '\n' ' ')"
for option in "$@"; do
    name=${option#--}
    if [ "$option" = --minimal ]; then minimal=yes && continue; fi
    case "$known" in
    *" $name "*) if [ "$name" = dev ]; then dev=yes extras="$extras torch"; else extras="$extras $name"; fi ;;
    *) fail "unknown option $option; there are: --minimal$(printf ' --%s' $known)" ;;
    esac
done

# Otherwise the shell goes on with its next line after Ctrl-C has ended pip.
trap 'exit 130' INT TERM

# Two terminals may start `make run` and `make talk` at once.
if command -v flock >/dev/null 2>&1; then
    exec 9<setup.sh
    flock --nonblock 9 || {
        say "another terminal is setting up at the moment; waiting for it"
        flock 9
    }
fi

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The command that brings a new enough Python to this system.
python_hint() {
    system=
    # shellcheck source=/dev/null
    if [ -r /etc/os-release ]; then system=$(. /etc/os-release && echo " ${ID:-} ${ID_LIKE:-} "); fi
    case "$system" in
    *" debian "* | *" ubuntu "*)
        packages=$(apt-cache pkgnames python3 2>/dev/null | grep -E '^python3(\.1[1-3])?-venv$' | sort -V)
        case "$packages" in
        # Without package lists, as in a fresh container, nothing is known yet.
        "") echo "sudo apt-get update && sudo apt-get install python3 python3-venv" && return ;;
        *.*) newest=${packages##*python} && echo "sudo apt-get install python${newest%-venv} python$newest" && return ;;
        esac
        ;;
    *" fedora "* | *" rhel "*) echo "sudo dnf install python3.12" && return ;;
    *" suse "*) echo "sudo zypper install python312" && return ;;
    *" arch "*) echo "sudo pacman -S python" && return ;;
    esac
    if command -v brew >/dev/null 2>&1; then
        echo "brew install python@3.13"
    else
        echo "uv python install 3.13"
    fi
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    first=${PYTHON:-python3}
    found=$("$first" --version 2>/dev/null) || found="no $first"
    fail "Python 3.11 or newer is needed, and here is $found. Install one:  $(python_hint)
setup: or choose one that you have:  PYTHON=/path/to/python make setup"
}

# A .venv counts only as a whole: made to the end, where it is now, with a Python that starts.
is_whole() {
    [ -x .venv/bin/python ] && [ ! -e .venv/.unfinished ] && ls .venv/.set-up* >/dev/null 2>&1 && is_new_enough .venv/bin/python &&
        made=$(sed -n 's/^command = .* -m venv .* \(\/.*\)/\1/p' .venv/pyvenv.cfg) && [ "${made:-$here}" = "$here" ]
}

make_venv() {
    if [ -L .venv ]; then fail ".venv is a link to $here, which is incomplete: run make setup there"; fi
    python=$(find_python) || exit 1
    "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module. Install it:  $(python_hint)"
    if [ -e .venv ]; then say "the .venv here is incomplete, was moved or has lost its Python; making it anew"; fi
    say "making .venv with $python ($("$python" --version))"
    "$python" -m venv --clear .venv
    : >.venv/.set-up
}

# What a set-up depends on: the file, and the Python and the place that pyvenv.cfg names.
key() {
    cat "$1" .venv/pyvenv.cfg | cksum
}

# install STAMP FILE [OPTION...]: the packages of FILE, unless STAMP says that exactly these are here.
install() {
    stamp=.venv/$1 file=$2
    shift 2
    if [ "$(cat "$stamp" 2>/dev/null)" = "$(key "$file")" ]; then return; fi
    say "installing the packages of $file (the first time this takes a few minutes)"
    if [ ! -t 1 ]; then set -- --quiet "$@"; fi
    : >.venv/.unfinished
    .venv/bin/python -m pip install --disable-pip-version-check -r "$file" "$@" || {
        # A pip that gives up by itself (no network) leaves nothing half done; one that was killed may.
        if [ $? -lt 128 ]; then rm .venv/.unfinished; fi
        fail "pip could not install $file (see above); \`make setup\` goes on where it stopped"
    }
    rm .venv/.unfinished
    key "$file" >"$stamp"
}

here=$(cd .venv 2>/dev/null && pwd -P) || here=
is_whole || make_venv

# The files are complete, so pip has nothing to add: above all not torch, which silero-vad asks for and the server does without.
if [ -n "$dev" ]; then
    install .set-up-dev requirements-dev.txt --no-deps
    key requirements.txt >.venv/.set-up  # its packages are among them
    minimal=yes
    if [ -e requirements-speech.txt ]; then key requirements-speech.txt >.venv/.set-up-speech; fi
else
    install .set-up requirements.txt --no-deps
fi
# Here pip may add: a CUDA build of torch needs packages that a CPU build does not.
for name in $extras; do install ".set-up-$name" "requirements-$name.txt"; done

# Nobody asked for it, so the server starts without it where it cannot be had, and it is not tried at every start.
if [ -z "$minimal" ] && [ -e requirements-speech.txt ]; then
    failed="failed $(key requirements-speech.txt)"
    if [ "$(cat .venv/.set-up-speech 2>/dev/null)" != "$failed" ] && ! (install .set-up-speech requirements-speech.txt); then
        if [ -e .venv/.unfinished ]; then exit 1; fi
        say "going on without recognition of open speech; \`make setup WITH=speech\` tries again"
        echo "$failed" >.venv/.set-up-speech
    fi
fi
