# Two cabled ports: to INIT by the driver, to ACTIVE by the fabric manager, then PSM2 and verbs between them.

# An endpoint can't be opened: PSM2 gives up with SIGABRT, on the side that tries first.
psm2_aborts() {
    env PSM2_DEVICES=self,hfi HFI_UNIT=0 timeout $LIMIT fi_pingpong -p psm2 -e rdm -c & server=$!
    wait_for "a listener on 47592" sh -c "netstat -ltn | grep -q ':47592 '"
    env PSM2_DEVICES=self,hfi HFI_UNIT=1 timeout $LIMIT fi_pingpong -p psm2 -e rdm -c 127.0.0.1; client=$?
    kill $server 2>/dev/null
    wait $server; served=$?
    echo "opx: server exits with $served, client with $client"
    [ "$client" = 134 ] || [ "$served" = 134 ]
}

# PSM2 sees another page where its returned credits should be. What comes of it depends on which: the kernel kills a process
# whose page table entry makes no sense, or PSM2 waits for ever once a context's first credits are used up, and nothing is
# sent any more by programs that still run. Nothing else sends once the fabric manager has ended.
psm2_breaks() {
    stop_manager
    env PSM2_DEVICES=self,hfi HFI_UNIT=0 fi_pingpong -p psm2 -e rdm -c -S 64 -I 10000 & server=$!
    wait_for "a listener on 47592" sh -c "netstat -ltn | grep -q ':47592 '"
    env PSM2_DEVICES=self,hfi HFI_UNIT=1 fi_pingpong -p psm2 -e rdm -c -S 64 -I 10000 127.0.0.1 & client=$!
    wait_for "end or silence" broken
    running=no
    kill -0 $server && kill -0 $client && running=yes
    kill -9 $server $client
    wait
    killed=$(dmesg | grep -c "fi_pingpong: Corrupted page table")
    echo "opx: still running: $running, killed: $killed"
    [ "$running" = yes ] || [ "$killed" != 0 ]
}
broken() { ! kill -0 $server || ! kill -0 $client || silence; }
sent() { cat /sys/class/infiniband/$1/ports/1/counters/port_xmit_packets; }
silence() {
    before=$(sent hfi1_0)-$(sent hfi1_1)
    sleep 5
    [ "$(sent hfi1_0)-$(sent hfi1_1)" = "$before" ]
}

connect
manage
check opainfo has "PortState: *Active" 2 opainfo
check devinfo has "state:.*PORT_ACTIVE" 2 ibv_devinfo
check saquery has "NodeInfo\|node_guid" 2 saquery
case $PSM2 in
    works) check psm2 psm2 all ;;
    aborts) check "psm2 aborts" psm2_aborts ;;
    *) ;;
esac
check "rc 4096" rc 4096
check "rc 262144" rc 262144
check ud ud 2048
# The last thing: it ends the fabric manager, and the kernel may be worse for it.
case $PSM2 in
    breaks) check "psm2 breaks" psm2_breaks ;;
    *) ;;
esac
