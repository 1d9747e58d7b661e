# Two cabled ports, and packets among those of PSM2 and RC that nobody sent.
connect
manage
# It would clear counters, and send at any time.
stop_manager
counters before $NAMES
ask forge
check "psm2 64" psm2 64 300
check "psm2 4096" psm2 4096 300
check "psm2 65536" psm2 65536 50
check "psm2 1048576" psm2 1048576 10
counters psm2 $NAMES
check "rc 4096" rc 4096
check "rc 262144" rc 262144
ask stop
counters rc $NAMES
