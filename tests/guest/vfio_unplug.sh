# The adapter is taken away while our driver works with it: by the host, or by the command in $take.
bind vfio-pci
group=/dev/vfio/$(basename "$(readlink $device/iommu_group)")
wait_for "file of the IOMMU group" [ -c "$group" ]
truncate -s 1G /tmp/file

opx-loopback --adapter $adapter --firmware /firmware --file /tmp/file --json >/tmp/out 2>/tmp/err </dev/null & running=$!
wait_for "interrupts of the adapter" grep -q vfio-msix /proc/interrupts
echo "opx: working"
# The host says when it has taken the adapter away. From then on there are five seconds.
read -r line
# It only returns once the adapter was let go.
sh -c "device=$device; $take" &
# Before it begins it says what it does to the adapter.
told() { grep -q '^opx-loopback: ' /tmp/err; }
# In whole seconds, of which the first has begun.
LIMIT=6
wait_for "word of opx-loopback" told
LIMIT=300
