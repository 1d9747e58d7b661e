# What happens to a fabric in use: the cable is pulled, bounces, goes under traffic; the driver is taken out and put back;
# a function is reset.
up() { both "2: INIT" || both "4: ACTIVE"; }
down() { both "1: DOWN"; }

# Ends the fabric manager with the cable out. On an ACTIVE port the driver would send the missing manager a trap, and again
# each second, by a timer that it never deletes (mad.c:send_trap): after rmmod the kernel jumps to where the driver was.
# Whether the timer runs can't be seen from here; with the link down it ends by itself after 1.1 s at most.
leave_fabric() {
    ask pull
    wait_for "link down" down
    stop_manager
    sleep 3
}

connect
manage
check "psm2 at first" psm2 4096

ask pull
wait_for "link down" down
ask plug
wait_for "link up" up
wait_for "ACTIVE again" both "4: ACTIVE"
check "psm2 after a pull" psm2 4096

# Under traffic: what RC has under way is lost or brought across, the link and the next connection must be sound.
timeout $LIMIT ibv_rc_pingpong -d hfi1_0 -n 100000 -s 65536 >/dev/null 2>&1 & server=$!
wait_for "a listener" sh -c "netstat -ltn | grep -q ':18515 '"
timeout $LIMIT ibv_rc_pingpong -d hfi1_1 -n 100000 -s 65536 127.0.0.1 >/dev/null 2>&1 & client=$!
sent() { cat /sys/class/infiniband/hfi1_0/ports/1/counters/port_xmit_packets; }
before=$(sent)
wait_for "traffic" sh -c "[ \$(cat /sys/class/infiniband/hfi1_0/ports/1/counters/port_xmit_packets) -gt $((before + 200)) ]"
ask pull
wait_for "link down under traffic" down
ask plug
wait_for "ACTIVE after traffic" both "4: ACTIVE"
kill $server $client 2>/dev/null
wait
check "rc after a pull under traffic" rc 65536

bounce=0
while [ "$bounce" -lt "$BOUNCES" ]; do
    bounce=$((bounce + 1))
    ask pull
    wait_for "bounce $bounce down" down
    ask plug
    wait_for "bounce $bounce up" up
done
wait_for "ACTIVE after bounces" both "4: ACTIVE"
check "psm2 after bounces" psm2 4096

leave_fabric
check "rmmod" rmmod hfi1
check "insmod" insmod /modules/hfi1.ko
ask plug
wait_for "INIT after insmod" both "2: INIT"
manage
check "rc after insmod" rc 65536
check "psm2 after insmod" psm2 4096

leave_fabric
for device in /sys/bus/pci/drivers/hfi1/0000:*; do
    at=${device##*/}
    check "unbind $at" sh -c "echo $at >/sys/bus/pci/drivers/hfi1/unbind"
    check "reset $at" sh -c "echo 1 >/sys/bus/pci/devices/$at/reset"
    check "bind $at" sh -c "echo $at >/sys/bus/pci/drivers/hfi1/bind"
done
ask plug
wait_for "INIT after resets" both "2: INIT"
manage
check "rc after resets" rc 65536
