# Two cabled ports with few receive buffers, so that these run full under traffic.

# counters: what the kernel has counted, for the host.
counters() {
    for adapter in hfi1_0 hfi1_1; do
        at=/sys/class/infiniband/$adapter
        overflows=0
        for name in $at/ports/1/hw_counters/RcvHdrOvr*; do
            overflows=$((overflows + $(cat "$name")))
        done
        echo "opx-counter: header $adapter $overflows"
        echo "opx-counter: eager $adapter $(cat $at/hw_counters/RxTIDFullEr,32)"
        echo "opx-counter: stalled $adapter $(cat $at/hw_counters/RxCtxEgrS,32)"
        echo "opx-counter: timeouts $adapter $(cat $at/ports/1/hw_counters/RcTimeOut)"
        echo "opx-counter: naks $adapter $(cat $at/ports/1/hw_counters/RcSeqNak)"
    done
}

wait_for 30 INIT both "2: INIT"
manage
check "psm2 65536" psm2 65536 20
check "psm2 1048576" psm2 1048576 10
check "rc 4096" rc 4096
check "rc 262144" rc 262144
# Both ways at once.
timeout 120 ibv_rc_pingpong -p 18516 -d hfi1_1 -n 100 -s 262144 -c >/tmp/back 2>&1 & back=$!
timeout 120 ibv_rc_pingpong -p 18517 -d hfi1_0 -n 100 -s 262144 -c >/tmp/forth 2>&1 & forth=$!
wait_for 20 "two listeners" sh -c "[ \$(netstat -ltn | grep -c ':1851[67] ') = 2 ]"
timeout 120 ibv_rc_pingpong -p 18516 -d hfi1_0 -n 100 -s 262144 -c 127.0.0.1 & back2=$!
timeout 120 ibv_rc_pingpong -p 18517 -d hfi1_1 -n 100 -s 262144 -c 127.0.0.1 & forth2=$!
for one in $back $forth $back2 $forth2; do
    wait $one || fail "rc both ways: $?"
done
counters
