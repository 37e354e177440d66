#!/usr/bin/env bash
# make test-all: everything there is, one step after the other, and how long each took.
# The first step that fails ends it; the times are printed all the same.
set -euo pipefail
cd "$(dirname "$0")/.."
MAKE=${MAKE:-make}

SECONDS=0
times="" current=""
finish() {
  status=$?
  printf '\n%s\n' "The steps and their times:"
  printf '%b' "$times"
  printf '%6d s  %s\n' "$SECONDS" "all of it"
  [ "$status" = 0 ] || echo "It stopped in: $current" >&2
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT

step() { # a name, a command
  local name=$1 began=$SECONDS status=0
  shift
  current=$name
  printf '\n== %s\n' "$name"
  "$@" || status=$?
  times+=$(printf '%6d s  %s' $((SECONDS - began)) "$name")"\n"
  return "$status"
}

step "install" "$MAKE" -s .venv/.dev .venv/.ministack .venv/.fuzz .venv/.checkov peers
step "make check" "$MAKE" check
step "make demo" "$MAKE" demo
step "make demo SAMPLES=ct500" "$MAKE" demo SAMPLES=ct500
step "make up and make send, as the README has them" .ci/readme-up
step "make deploy ARGS=plan, with a file that is wrong" .ci/plan-refuses
step "make test, exhaustive and under coverage" "$MAKE" test SUITE="--everything --coverage"
step "coverage of at least 90 % of the branches" .venv/bin/coverage report --fail-under=90
step "make fuzz" "$MAKE" fuzz
step "make chaos SECONDS=150 SEED=1" "$MAKE" chaos SECONDS=150 SEED=1
step "make validate" "$MAKE" validate
step "make image-test" "$MAKE" image-test
