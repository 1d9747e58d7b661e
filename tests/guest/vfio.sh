# Our own driver on the adapter behind stock vfio-pci. The host judges what each step says and how it ends.
adapter=0000:01:00.0
device=/sys/bus/pci/devices/$adapter

# step NAME COMMAND...: runs it, and shows its output, its errors and its exit status to the host.
step() {
    name=$1; shift
    "$@" >/tmp/out 2>/tmp/err </dev/null
    status=$?
    sed "s/^/out $name: /" /tmp/out
    sed "s/^/err $name: /" /tmp/err
    echo "exit $name: $status"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    left=$(($1 * 10)); what=$2; shift 2
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "opx: no $what in time"; exit 1; }
        sleep 0.1
    done
}

step unbound opx-loopback --adapter $adapter

echo vfio-pci >$device/driver_override
echo $adapter >/sys/bus/pci/drivers_probe
group=$(basename "$(readlink $device/iommu_group)")
wait_for 10 "file of the IOMMU group" [ -c "/dev/vfio/$group" ]

step list opx-probe list --json
step info opx-probe info --adapter $adapter --json
step csr opx-probe csr 'CCE_REVISION*' --adapter $adapter --json
step ladder opx-loopback --adapter $adapter --json
