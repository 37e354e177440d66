#!/bin/sh
# Resolves every place's dependencies together and writes the lock files, without naming an index.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
lock() { # source, file, more options
  source=$1 file=$2
  shift 2
  "$uv" pip compile "$source" --universal --generate-hashes --quiet \
    --no-emit-index-url --python-version 3.11 --custom-compile-command 'make lock' \
    --output-file "$file" "$@"
}
lock pyproject.toml requirements/dev.txt --extra dev "$@"
lock pyproject.toml requirements/local.txt --extra local --constraint requirements/dev.txt
lock pyproject.toml scp/requirements.txt --extra scp --constraint requirements/dev.txt
lock pyproject.toml chalice_app/requirements.txt --extra lambda --constraint requirements/dev.txt
lock pyproject.toml requirements/fuzz.txt --extra fuzz "$@"
lock requirements/ministack.in requirements/ministack.txt "$@"
lock requirements/checkov.in requirements/checkov.txt "$@"
lock requirements/sbom.in requirements/sbom.txt "$@"
