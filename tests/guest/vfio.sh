# Our own driver on the adapter behind stock vfio-pci. Linux's hfi1 driver has it at first.
wait_for "hfi1 device" [ -e /sys/class/infiniband/hfi1_0 ]
step hfi1 opx-loopback --adapter $adapter
echo $adapter >/sys/bus/pci/drivers/hfi1/unbind
step unbound opx-loopback --adapter $adapter

bind vfio-pci
group=/dev/vfio/$(basename "$(readlink $device/iommu_group)")
wait_for "file of the IOMMU group" [ -c "$group" ]
step list opx-probe list --json
step info opx-probe info --adapter $adapter --json
step csr opx-probe csr read 'CCE_REVISION*' --adapter $adapter --json
step rungs opx-loopback --list
# However slow this machine is: an adapter of a machine is taken for hardware, which has a minute.
step plan opx-loopback --adapter $adapter --dry-run
step ladder opx-loopback --adapter $adapter --duration 30m --json

step contract env OPX_ADAPTER=$adapter kernel_vfio contract:: --test-threads=1 --color=never

step permission su -s /busybox/sh user -c "exec opx-loopback --adapter $adapter"
chown user "$group"
step memlock su -s /busybox/sh user -c "ulimit -l 64; exec opx-loopback --adapter $adapter"

# A user with enough lockable memory needs no other right; who comes second is told who is there.
su -s /busybox/sh user -c "ulimit -l 131072; exec opx-loopback --adapter $adapter --firmware /firmware --duration 30m --json" \
    >/tmp/first.out 2>/tmp/first.err </dev/null & first=$!
wait_for "opx-loopback with the adapter" holds $first "$group"
echo "opx: holder $first"
step busy opx-loopback --adapter $adapter
wait $first
status=$?
mv /tmp/first.out /tmp/out
mv /tmp/first.err /tmp/err
show user $status
