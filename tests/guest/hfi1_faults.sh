# Two cabled ports whose cable begins to spoil packets once they are ACTIVE, and then stops to.

# spoiled_rc SIZE: ibv_rc_pingpong ends without a handshake. When the very last acknowledgement is lost, the side that has
# everything is gone, and the other one's retries find nobody. Such a run doesn't count and is repeated; any other failure
# is one.
spoiled_rc() {
    for try in 1 2 3 4; do
        rc "$1" >/tmp/rc 2>&1; status=$?
        cat /tmp/rc
        [ "$status" = 0 ] && return 0
        [ "$(grep -c '^100 iters' /tmp/rc)" = 1 ] || return 1
        grep -q 'transport retry counter exceeded (12) for wr_id 2' /tmp/rc || return 1
        echo "opx: the last acknowledgement was lost"
    done
    return 1
}

# traffic RC: with this function for RC.
traffic() {
    check "psm2 64" psm2 64 300
    check "psm2 4096" psm2 4096 300
    check "psm2 65536" psm2 65536 100
    check "psm2 1048576" psm2 1048576 10
    check "rc 4096" "$1" 4096
    check "rc 131072" "$1" 131072
}

connect
manage
# It would clear counters, and send at any time.
stop_manager
counters before $NAMES
ask spoil
traffic spoiled_rc
counters spoiled $NAMES
ask mend
traffic rc
counters mended $NAMES

# sweep: the manager does so at once, if it is there yet.
sweep() { /usr/lib/opa-fm/bin/fm_cmd smForceSweep 2>&1 | grep -q Successfully; }

# A new manager takes over what is ACTIVE, and sweeps again and again, over a cable that spoils its packets as well. Its log
# tells the host of each sweep.
ask spoil
manage
for number in $(seq $SWEEPS); do
    wait_for "sweep $number" sweep
    check "psm2 during sweep $number" psm2 65536 50
    both "4: ACTIVE" || fail "no longer ACTIVE"
    ask swept
done
check saquery has "NodeInfo\|node_guid" 2 saquery
ask mend
check "rc 4096" rc 4096
both "4: ACTIVE" || fail "no longer ACTIVE"
