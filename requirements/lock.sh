#!/bin/sh
# Resolves every place's dependencies together and writes the lock files, without naming an index.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
lock() { # extra, file, more options
  extra=$1 file=$2
  shift 2
  "$uv" pip compile pyproject.toml --extra "$extra" --universal --generate-hashes --quiet \
    --no-emit-index-url --python-version 3.11 --custom-compile-command 'make lock' \
    --output-file "$file" "$@"
}
lock dev requirements/dev.txt "$@"
lock local requirements/local.txt --constraint requirements/dev.txt
lock scp scp/requirements.txt --constraint requirements/dev.txt
lock lambda chalice_app/requirements.txt --constraint requirements/dev.txt
