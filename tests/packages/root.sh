#!/bin/bash
# root.sh TAR: makes a small Debian with systemd, of the release of this machine, since the binary is linked to its libraries.
# Needs root and mmdebstrap. Takes half a minute, so TAR is kept between runs.
set -euo pipefail
. /etc/os-release
mkdir -p "$(dirname "$1")"
part=$1.part-$$
trap 'rm -f "$part"' EXIT
# What the tests look at: systemd and its client, who makes users, and what packages call. No manual pages.
mmdebstrap --quiet --variant=minbase --format=tar \
    --include=systemd,systemd-sysv,init-system-helpers,passwd \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/strata*' \
    --dpkgopt='path-include=/usr/share/man/*/strata*' \
    "$VERSION_CODENAME" "$part"
mv "$part" "$1"
