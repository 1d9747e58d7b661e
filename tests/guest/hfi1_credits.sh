# Two cabled ports with small send contexts and a slow wire, so that senders run out of credit.

# srq SERVER CLIENT: many queue pairs at once, each with a message on its way.
srq() {
    tool="ibv_srq_pingpong -q 32 -r 500 -n 500 -m 2048 -s 2048 -c -d"
    pair "$tool $1" "$tool $2 127.0.0.1" 18515
}

connect
manage
stop_manager
counters before $NAMES
# One context's credits: several packets a message.
check "psm2 4096" psm2 4096 100
check "psm2 65536" psm2 65536 20
ask slow
# Which side sends more at a time depends on who begins.
check "srq" srq hfi1_0 hfi1_1
check "srq the other way" srq hfi1_1 hfi1_0
check "psm2 4096 on a slow wire" psm2 4096 100
check "rc 16384 on a slow wire" rc 16384
ask fast
counters short $NAMES
check "rc 65536" rc 65536
counters end $NAMES
