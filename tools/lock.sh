#!/bin/sh
# Resolve every dependency for every supported Python at once and write, into requirements/, versions, hashes, and who asked:
# lock.txt with every extra, and nova-*.txt, the environments in which Nova's driver is tried with each release of Nova; and what
# the deploy agent's ramdisk of the lab's virtual machines is made from. Another list of that is another ramdisk, built anew.
set -eu
cd "$(dirname "$0")/.."

compile() {
    "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url "$@"
}

compile --all-extras --output-file requirements/lock.txt pyproject.toml requirements/build.in "$@"

# With what there was in the release's time, as those have it who run it.
for release in 31:2025-07-01 32:2026-01-01 33:2026-04-20 34:2026-11-01; do
    number=${release%%:*}
    echo "nova>=$number,<$((number + 1))" | compile --exclude-newer "${release#*:}" \
        --output-file "requirements/nova-$number.txt" pyproject.toml requirements/build.in requirements/nova-releases.in - "$@"
done

# For the ramdisk's Python, which is Debian 12's, and as wheels only: nothing is compiled there.
echo ironic-python-agent | "${UV:-uv}" pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_36 \
    --only-binary :all: --generate-hashes --no-annotate --no-header --no-emit-index-url \
    --output-file src/bloomery/lab/vm/recipe/agent/requirements.txt - "$@"
