#!/bin/busybox sh
# The first program of the virtual machine: sees the host's files, changes none of them, runs one test and powers off.
b() { /bin/busybox "$@"; }
b mount -t proc proc /proc
b mount -t sysfs sys /sys
b mount -t devtmpfs dev /dev
while read -r module parameters; do
    # shellcheck disable=SC2086 # several parameters
    b insmod "/modules/$module" $parameters || echo "no $module"
done </modules/order
b mount -t tmpfs tmpfs /layers
b mkdir /layers/host /layers/changes /layers/work
b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /layers/host
b mount -t overlay -o lowerdir=/layers/host,upperdir=/layers/changes,workdir=/layers/work root /root
for folder in proc sys dev; do b mount -o bind /$folder /root/$folder; done
for folder in tmp run; do b mount -t tmpfs tmpfs /root/$folder; done
b mkdir -p /root/dev/shm
b mount -t tmpfs tmpfs /root/dev/shm
# Programs from memory: from there every page that they touch is a request. They may lie in /tmp, which is covered.
while read -r program; do b cp "/layers/host$program" /root/run/; done </programs
b ip link set lo up
b cp /command /root/run/
b chroot /root /bin/sh /run/command
echo "machine: exit $?"
b poweroff -f
