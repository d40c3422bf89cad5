#!/usr/bin/env bash
# Make the image that the chain runs in, from Debian's packages and the Python packages of the demonstration.
# usage: build.sh OUT.tar [NAME:TAG]; then: docker load -i OUT.tar, podman load -i OUT.tar,
#        or apptainer build phenochain.sif docker-archive:OUT.tar. Needs mmdebstrap (on Debian or Ubuntu) and pip.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(realpath -m "${1:?usage: build.sh OUT.tar [NAME:TAG]}")
tag=${2:-localhost/packtivity/phenochain:1.0}
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH=1700000000

# Debian 12 has Python 3.11: the wheels have to be for that one, whatever Python there is here.
"$python" -m pip install --quiet --disable-pip-version-check --target "$work/packages" --python-version 3.11 \
  --only-binary :all: --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
  --platform manylinux2014_x86_64 -r "$here/requirements.txt"

cat >"$work/hook" <<'HOOK'
#!/bin/sh
set -e
cd "$1"
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
ln -sf dash bin/sh
ln -sf python3 usr/bin/python
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/zoneinfo var/cache/apt var/lib/apt etc/resolv.conf etc/hostname
mkdir -p tmp var/tmp usr/local/lib/python3.11/dist-packages
chmod 1777 tmp var/tmp
cp -r PACKAGES/. usr/local/lib/python3.11/dist-packages/
chroot . /sbin/ldconfig
HOOK
sed -i "s|PACKAGES|$work/packages|" "$work/hook"
chmod 755 "$work" "$work/hook"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort | uniq -c | sort -rn | awk 'NR==1 {print $2}')
TMPDIR=$work mmdebstrap --quiet --variant=extract --extract-hook="$work/hook" \
  --include=base-files,base-passwd,coreutils,dash,libc-bin,libstdc++6,libgfortran5,python3,python3-distutils \
  bookworm "$work/rootfs.tar" "$mirror"
"$python" "$here/../../../tools/make_image.py" "$work/rootfs.tar" "$tag" "$out" sh
