#!/bin/sh
# What builds and runs the image without a daemon: podman, and mmdebstrap for a base where no
# registry can be reached. From Debian's and Ubuntu's packages; elsewhere one line on what to install.
missing() {
  for program in podman runc mmdebstrap; do
    command -v "$program" >/dev/null 2>&1 || echo "$program"
  done
}

[ -z "$(missing)" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "Installing podman and mmdebstrap (once) ..."
  {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      podman runc mmdebstrap debian-archive-keyring
  } >/dev/null 2>&1
fi
[ -z "$(missing)" ] && exit 0
echo "The image's tests need root on Debian or Ubuntu, and: apt-get install podman runc mmdebstrap" >&2
exit 1
