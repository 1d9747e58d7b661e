# One adapter here, its neighbour in another guest. This guest has the fabric manager and the servers ($HERE is 1), or the
# clients; the host sends these what to run.
both() { [ "$(port hfi1_0)" = "$1" ]; }

# pair SERVER CLIENT PORT: as in one guest, but the client is the other guest's.
pair() {
    timeout $LIMIT sh -c "exec $1" & server=$!
    wait_for "a listener on $3" sh -c "netstat -ltn | grep -q ':$3 '"
    ask "client $2"
    wait $server
}

psm2() {
    tool="env PSM2_DEVICES=self,hfi fi_pingpong -p psm2 -e rdm -c -S all"
    pair "$tool" "$tool $SERVER" 47592
}

rc() {
    pair "ibv_rc_pingpong -n 100 -s $1 -c" "ibv_rc_pingpong -n 100 -s $1 -c $SERVER" 18515
}

ud() {
    pair "ibv_ud_pingpong -n 100 -s $1" "ibv_ud_pingpong -n 100 -s $1 $SERVER" 18515
}

# The tools exchange their addresses by TCP.
SERVER=10.0.0.1
check "network" sh -c "ip address add 10.0.0.$HERE/24 dev eth0 && ip link set eth0 up"
connect
if [ "$HERE" = 1 ]; then
    manage
    check opainfo has "PortState: *Active" 1 opainfo
    check saquery has "NodeInfo\|node_guid" 2 saquery
    ask "neighbour"
    check psm2 psm2
    check "rc 4096" rc 4096
    check "rc 262144" rc 262144
    check ud ud 2048
    ask "end"
else
    wait_for ACTIVE both "4: ACTIVE"
    check opainfo has "PortState: *Active" 1 opainfo
    check saquery has "NodeInfo\|node_guid" 2 saquery
    echo "opx-ready"
    while read -r client && [ "$client" != "end" ]; do
        check "$client" timeout $LIMIT $client
    done
fi
