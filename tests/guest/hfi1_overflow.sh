# Two cabled ports with few receive buffers, so that these run full under traffic.
connect
manage
stop_manager
check "psm2 65536" psm2 65536 50
check "psm2 1048576" psm2 1048576 10
check "rc 4096" rc 4096
check "rc 262144" rc 262144

# Both ways at once.
echo "opx: start rc both ways"
timeout $LIMIT ibv_rc_pingpong -p 18516 -d hfi1_1 -n 100 -s 262144 -c & first=$!
timeout $LIMIT ibv_rc_pingpong -p 18517 -d hfi1_0 -n 100 -s 262144 -c & second=$!
wait_for "two listeners" sh -c "[ \$(netstat -ltn | grep -c ':1851[67] ') = 2 ]"
timeout $LIMIT ibv_rc_pingpong -p 18516 -d hfi1_0 -n 100 -s 262144 -c 127.0.0.1 & third=$!
timeout $LIMIT ibv_rc_pingpong -p 18517 -d hfi1_1 -n 100 -s 262144 -c 127.0.0.1 & fourth=$!
for one in $first $second $third $fourth; do
    wait "$one" || fail "rc both ways: $?"
done
counters end $NAMES
