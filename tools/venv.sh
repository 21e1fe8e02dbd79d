#!/bin/sh
# Make a virtual environment at $1 with the interpreter $2, or else with the newest one here that Bloomery runs on.
set -eu
folder=$1
chosen=${2:-}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

stop() {
    echo "venv: $1" >&2
    exit 1
}

if [ -n "$chosen" ]; then
    fits "$chosen" || stop "$chosen is no Python from 3.11 to 3.13; name another: make PYTHON=..."
else
    for candidate in python3.13 python3.12 python3.11 python3; do
        if fits "$candidate"; then
            chosen=$candidate
            break
        fi
    done
    [ -n "$chosen" ] || stop "no Python from 3.11 to 3.13 here; install one, or name it: make PYTHON=..."
fi

# Debian and its kin keep ensurepip, which venv needs, in a package of its own.
if ! "$chosen" -c 'import ensurepip' 2>/dev/null; then
    package=$("$chosen" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    command -v apt-get >/dev/null || stop "$chosen comes without ensurepip; install the package that has it"
    [ "$(id -u)" = 0 ] || stop "$chosen comes without ensurepip; do: sudo apt-get install $package"
    echo "venv: $chosen comes without ensurepip; installing Debian's $package" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq "$package" >/dev/null
fi

"$chosen" -m venv --clear "$folder"
