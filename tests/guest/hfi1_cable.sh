# Two cabled ports: to INIT by the driver, to ACTIVE by the fabric manager, then PSM2 and verbs between them.
# An endpoint can't be opened: PSM2 gives up with SIGABRT, on the side that tries first.
psm2_aborts() {
    env PSM2_DEVICES=self,hfi HFI_UNIT=0 timeout 60 fi_pingpong -p psm2 -e rdm -c & server=$!
    wait_for 20 "a listener on 47592" sh -c "netstat -ltn | grep -q ':47592 '"
    env PSM2_DEVICES=self,hfi HFI_UNIT=1 timeout 60 fi_pingpong -p psm2 -e rdm -c 127.0.0.1; client=$?
    kill $server 2>/dev/null
    wait $server; served=$?
    echo "opx: server exits with $served, client with $client"
    [ "$client" = 134 ] || [ "$served" = 134 ]
}

wait_for 30 INIT both "2: INIT"
manage
check opainfo has "PortState: *Active" 2 opainfo
check devinfo has "state:.*PORT_ACTIVE" 2 ibv_devinfo
check saquery has "NodeInfo\|node_guid" 2 saquery
case $PSM2 in
    works) check psm2 psm2 all ;;
    aborts) check "psm2 aborts" psm2_aborts ;;
esac
check "rc 4096" rc 4096
check "rc 262144" rc 262144
check ud ud 2048
