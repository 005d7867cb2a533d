#!/bin/bash
# boot.sh TAR FOLDER CGROUP: becomes the first process of a machine of its own: systemd on the root file system in TAR.
#
# To be run as root and as the first process of new namespaces:
#   unshare --mount --uts --ipc --net --pid --fork --kill-child boot.sh …
# All that it mounts is private to them, and goes with them; FOLDER is empty before and after. CGROUP is the name of a new control
# group of the unified hierarchy, for whoever started this to remove.
set -euo pipefail
tar=$1 folder=$2 cgroup=$3

if [ "${4:-}" != inside ]; then
    mount --make-rprivate /
    # The hierarchy of version 2, whether or not the host uses the first one beside it.
    mount -t cgroup2 cgroup2 "$folder"
    mkdir "$folder/$cgroup"
    echo 0 >"$folder/$cgroup/cgroup.procs"
    umount "$folder"
    exec unshare --cgroup "$0" "$tar" "$folder" "$cgroup" inside
fi

ip link set lo up
mount -t tmpfs -o size=2g,mode=755 root "$folder"
cd "$folder"
tar --extract --file "$tar" --exclude='./dev/*'
mount -t tmpfs -o mode=755,nosuid dev dev
for node in null zero full random urandom tty; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t proc proc proc
# The kernel is the host's: its settings are not this machine's to change, but for those of its own network.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup

echo machine >etc/hostname
echo '127.0.0.1 localhost machine' >etc/hosts
: >etc/machine-id
# What has nothing to do here and would wait for what is not there.
for unit in getty.target console-getty.service systemd-logind.service systemd-networkd.service systemd-timesyncd.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-tmpfiles-clean.timer systemd-sysctl.service; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
mkdir old
pivot_root . old
cd /
umount --lazy /old
rmdir /old
exec env -i container=strata-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set=-sys_boot,-sys_module,-sys_time,-sys_rawio,-syslog \
    /lib/systemd/systemd --log-target=journal --show-status=false --crash-reboot=false --unit=multi-user.target
