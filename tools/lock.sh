#!/bin/sh
# Resolve every extra for every supported Python at once and write requirements/lock.txt: versions, hashes, who asked.
set -eu
cd "$(dirname "$0")/.."
exec "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
    --no-header --no-emit-index-url --output-file requirements/lock.txt pyproject.toml requirements/build.in "$@"
