# The chip freezes for errors inside its send paths while RC and PSM2 have packets under way. The driver takes it through freeze
# and unfreeze (chip.c:handle_freeze), and every byte comes across.
sent() { cat "/sys/class/infiniband/hfi1_$1/ports/1/counters/port_xmit_packets"; }
sends() { [ "$(sent 0)" -gt "$(($1 + 200))" ]; }

# frozen SERVER CLIENT PORT: a pair of programs whose adapters freeze in their midst, once each; both must succeed.
frozen() {
    before=$(sent 0)
    timeout $LIMIT sh -c "exec $1" & server=$!
    wait_for "a listener on $3" sh -c "netstat -ltn | grep -q ':$3 '"
    timeout $LIMIT sh -c "exec $2" & client=$!
    wait_for "traffic" sends "$before"
    ask freeze
    wait $client; client=$?
    [ "$client" = 0 ] || kill $server
    wait $server; served=$?
    [ "$client" = 0 ] && [ "$served" = 0 ]
}

connect
manage
stop_manager
counters before $NAMES
for fault in $RC_FAULTS; do
    check "rc with $fault" frozen "ibv_rc_pingpong -d hfi1_0 -n 400 -s 65536 -c" \
        "ibv_rc_pingpong -d hfi1_1 -n 400 -s 65536 -c 127.0.0.1" 18515
done
for fault in $PSM2_FAULTS; do
    check "psm2 with $fault" frozen "env PSM2_DEVICES=self,hfi HFI_UNIT=0 fi_pingpong -p psm2 -e rdm -c -S 65536 -I 400" \
        "env PSM2_DEVICES=self,hfi HFI_UNIT=1 fi_pingpong -p psm2 -e rdm -c -S 65536 -I 400 127.0.0.1" 47592
done
check "rc at last" rc 65536
check "psm2 at last" psm2 4096
counters after $NAMES
