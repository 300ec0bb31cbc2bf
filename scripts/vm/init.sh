#!/bin/busybox sh
# The virtual machine's first process: makes the other machine's files, with a layer of memory above, the root, and runs /job there.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
. /settings

root() {
  modprobe -a virtio_pci 9pnet_virtio 9p overlay &&
    mkdir -p /lower /memory /root &&
    mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose root /lower &&
    mount -t tmpfs tmpfs /memory &&
    mkdir /memory/upper /memory/work &&
    mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /root &&
    mount -t tmpfs tmpfs /root/run &&
    cp /bin/busybox /job /root/run
}

# For the kernel and for programs, which load what they need by themselves.
modules() {
  release=$(uname -r)
  mkdir -p /root/usr/lib/modules && rm -rf "/root/usr/lib/modules/$release" && ln -s "$MODULES/$release" "/root/usr/lib/modules/$release" &&
    rm -f /root/usr/sbin/modprobe && cp /bin/busybox /root/usr/sbin/modprobe
}

if ! root || ! modules; then
  poweroff -f
fi
umount /sys /proc
# Not chroot: a program that enters another mount namespace would get out of it.
exec switch_root /root /run/busybox sh -c '
  bb=/run/busybox
  $bb mount -t proc proc /proc
  $bb mount -t sysfs sysfs /sys
  $bb mount -t devtmpfs devtmpfs /dev
  $bb mkdir -p /dev/pts /dev/shm
  $bb mount -t devpts devpts /dev/pts
  $bb ip link set lo up
  /bin/sh /run/job
  $bb echo "
tsnet-vm: status $?"
  $bb poweroff -f' </dev/console >/dev/console 2>&1
