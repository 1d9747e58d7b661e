#!/bin/busybox sh
# The guest's first process: mounts, modules, the scenario, its exit status, the end. ttyS0 has the kernel's messages,
# ttyS1 what the scenario says, so that neither cuts the other's lines.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var/log /var/crash /root /busybox
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mkdir -p /dev/shm
/bin/busybox mount -t tmpfs tmpfs /dev/shm
/bin/busybox --install -s /busybox
export PATH=/usr/bin:/usr/sbin:/bin:/sbin:/busybox HOME=/root LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu
ln -s /run /var/run
ulimit -l unlimited
ip link set lo up
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
# What the kernel says from here on is judged: before, it is about QEMU's board.
echo "<6>opx: modules" >/dev/kmsg
status=0
while read -r module options; do
    echo "opx-module: $module"
    insmod "/modules/$module.ko" $options || status=$?
done </modules/order
if [ "$status" = 0 ]; then
    sh /scenario
    status=$?
fi
# Warnings and worse.
dmesg -r | sed '1,/opx: modules/d' | grep -E '^<[0-4]>' | sed 's/^/opx-kernel: /'
echo "opx-exit: $status"
# Closing the line waits until all is sent.
exec </dev/console >/dev/console 2>&1
case $(cat /end) in
    reset) echo b >/proc/sysrq-trigger ;;
    *) poweroff -f ;;
esac
# Bounded by the runner.
while :; do sleep 60; done
