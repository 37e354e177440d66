#!/bin/sh
# The DICOM peers the interoperability tests start: DCMTK and Orthanc from the system's packages,
# where that is possible; otherwise one line on what to install.
missing() {
  for program in storescu Orthanc openssl; do
    PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null 2>&1 || echo "$program"
  done
}

[ -z "$(missing)" ] && exit 0
if [ "$(uname)" = Darwin ]; then
  echo "Orthanc has no package for macOS that the tests could start: its tests are skipped." >&2
  command -v storescu >/dev/null 2>&1 && exit 0
  if command -v brew >/dev/null 2>&1; then
    echo "Installing DCMTK (once) ..."
    brew install --quiet dcmtk >/dev/null 2>&1 && exit 0
  fi
  echo "The tests need DCMTK's storescu: brew install dcmtk" >&2
  exit 1
fi
if command -v apt-get >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root=sudo; else as_root=none; fi
  if [ "$as_root" != none ]; then
    echo "Installing DCMTK and Orthanc (once) ..."
    service_ran=no
    pgrep -x Orthanc >/dev/null 2>&1 && service_ran=yes
    {
      $as_root apt-get update -qq
      $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq dcmtk orthanc openssl
    } >/dev/null 2>&1
    # Its package starts a server on ports of its own, which nobody asked for: the tests start theirs.
    if [ "$service_ran" = no ]; then
      $as_root service orthanc stop >/dev/null 2>&1
    fi
  fi
fi
[ -z "$(missing)" ] && exit 0
echo "The tests need DCMTK's storescu, Orthanc and openssl: apt-get install dcmtk orthanc openssl (Debian, Ubuntu)." >&2
exit 1
