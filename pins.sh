#!/bin/sh
# Writes requirements*.txt from requirements*.in: every package with one exact version, for Python 3.11 and later on any system.
# `make pins` calls this after a change to a .in file; ARGS="--upgrade", or "--upgrade-package flask", also moves versions on.
# What is pinned already stays as it is otherwise. Needs the network; which index is asked is uv's own configuration.
set -eu
cd "$(dirname "$0")"

UV=0.13.9

uv=.tools/uv/bin/uv
if [ "$("$uv" --version 2>/dev/null | cut -d' ' -f2)" != "$UV" ]; then
    .venv/bin/python -m venv --clear .tools/uv
    .tools/uv/bin/python -m pip install --disable-pip-version-check --quiet "uv==$UV"
fi

# compile NAME EXCLUDED [OPTION...]: NAME.in -> NAME.txt without the packages of EXCLUDED.
compile() {
    name=$1 excluded=$2
    shift 2
    # shellcheck disable=SC2086
    printf '%s\n' $excluded | "$uv" pip compile --quiet "$name.in" --output-file "$name.txt" --excludes /dev/stdin \
        --universal --python-version 3.11 --fork-strategy fewest \
        --annotation-style line --custom-compile-command "make pins" "$@"
}

# silero-vad asks for torch, which the server runs without. The CUDA packages are left to the torch wheel that is installed: a CPU build
# has no use for them, and a CUDA build names their exact versions itself.
cuda="cuda-bindings cuda-toolkit nvidia-cublas nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13 triton"
compile requirements torch "$@"
compile requirements-dev torch --constraints requirements.txt "$@"
compile requirements-torch "$cuda" --constraints requirements-dev.txt "$@"
compile requirements-sherpa torch --constraints requirements-dev.txt "$@"
compile requirements-speech torch --constraints requirements-dev.txt "$@"
compile requirements-vosk torch --constraints requirements-dev.txt "$@"
compile requirements-funasr "$cuda" --constraints requirements-dev.txt "$@"
