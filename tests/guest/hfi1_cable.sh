# Brings both ports to ACTIVE with the stock fabric manager, then runs PSM2 and verbs between them.
port() { cat "/sys/class/infiniband/$1/ports/1/state"; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    left=$(($1 * 10)); what=$2; shift 2
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "opx: no $what in time"; dmesg; exit 1; }
        sleep 0.1
    done
    echo "opx: $what $(cut -d ' ' -f 1 /proc/uptime)"
}

both() { [ "$(port hfi1_0)" = "$1" ] && [ "$(port hfi1_1)" = "$1" ]; }

# check NAME COMMAND...: the scenario fails when it fails.
check() {
    name=$1; shift
    echo "opx: start $name"
    "$@" || { echo "opx: failed $name: $?"; dmesg | tail -50; exit 1; }
    echo "opx: passed $name $(cut -d ' ' -f 1 /proc/uptime)"
}

# pair SERVER-COMMAND CLIENT-COMMAND: both must succeed. The client starts once the server listens.
pair() {
    sh -c "$1" & server=$!
    wait_for 20 listening sh -c "netstat -ltn | grep -q ':$3 '"
    timeout 120 sh -c "$2"; client=$?
    wait $server; served=$?
    [ "$client" = 0 ] && [ "$served" = 0 ]
}

echo "opx: modules loaded $(cut -d ' ' -f 1 /proc/uptime)"
wait_for 30 INIT both "2: INIT"
mkdir -p /var/usr/lib/opa-fm /var/lib/opa-fm /var/crash/opafm /usr/lib/opa-fm
/usr/lib/opa-fm/bin/opafmd -D
wait_for 30 ACTIVE both "4: ACTIVE"

check opainfo sh -c 'opainfo && opainfo -h 2'
check devinfo ibv_devinfo -v
check saquery saquery
check psm2 pair \
    "PSM2_DEVICES=self,hfi HFI_UNIT=0 timeout 120 fi_pingpong -p psm2 -e rdm -c -S all" \
    "PSM2_DEVICES=self,hfi HFI_UNIT=1 fi_pingpong -p psm2 -e rdm -c -S all 127.0.0.1" 47592
for size in 4096 262144; do
    check "rc $size" pair \
        "timeout 120 ibv_rc_pingpong -d hfi1_0 -n 100 -s $size -c" \
        "ibv_rc_pingpong -d hfi1_1 -n 100 -s $size -c 127.0.0.1" 18515
done
check ud pair \
    "timeout 120 ibv_ud_pingpong -d hfi1_0 -n 100 -s 2048" \
    "ibv_ud_pingpong -d hfi1_1 -n 100 -s 2048 127.0.0.1" 18515
