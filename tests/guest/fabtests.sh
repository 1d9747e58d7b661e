# The scenarios named after fabtests on the adapter behind stock vfio-pci, each told of as it ends.
bind vfio-pci
group=/dev/vfio/$(basename "$(readlink $device/iommu_group)")
wait_for "file of the IOMMU group" [ -c "$group" ]
{
    OPX_ADAPTER=$adapter kernel_vfio $TESTS --test-threads=1 --color=never 2>/tmp/err </dev/null
    echo $? >/tmp/status
} | sed "s/^/out fabtests: /"
: >/tmp/out
show fabtests "$(cat /tmp/status)"
