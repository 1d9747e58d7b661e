# Two cabled ports: to INIT by the driver, to ACTIVE by the fabric manager, then PSM2 and verbs between them.
wait_for 30 INIT both "2: INIT"
manage
check opainfo has "PortState: *Active" 2 opainfo
check devinfo has "state:.*PORT_ACTIVE" 2 ibv_devinfo
check saquery has "NodeInfo\|node_guid" 2 saquery
if [ -n "$PSM2" ]; then
    check psm2 psm2 all
fi
check "rc 4096" rc 4096
check "rc 262144" rc 262144
check ud ud 2048
