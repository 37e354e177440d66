#!/bin/sh
# DCMTK from the system's packages where that is possible; otherwise one line on what to install.
if command -v apt-get >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root=sudo; else as_root=none; fi
  if [ "$as_root" != none ]; then
    echo "Installing DCMTK (once) ..."
    { $as_root apt-get update -qq && $as_root apt-get install -y -qq dcmtk; } >/dev/null 2>&1
  fi
fi
command -v storescu >/dev/null 2>&1 && exit 0
echo "The tests need DCMTK's storescu: apt-get install dcmtk (Debian, Ubuntu) or brew install dcmtk (macOS)." >&2
exit 1
