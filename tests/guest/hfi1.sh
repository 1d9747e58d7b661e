# Functions of the scenarios with Linux's hfi1 driver.
# Seconds: see wait_for.
LIMIT=300
port() { cat "/sys/class/infiniband/$1/ports/1/state"; }
both() { [ "$(port hfi1_0)" = "$1" ] && [ "$(port hfi1_1)" = "$1" ]; }
now() { cut -d ' ' -f 1 /proc/uptime; }

# What the driver knows of its engines, queue pairs and contexts.
state() {
    mount -t debugfs none /sys/kernel/debug 2>/dev/null
    for device in hfi1_0 hfi1_1; do
        for what in sdes qp_stats pios rcds; do
            sed "s/^/$device $what: /" "/sys/kernel/debug/hfi1/$device/$what" 2>/dev/null
        done
        grep -H . "/sys/class/infiniband/$device/ports/1/hw_counters/"* 2>/dev/null | grep -v ':0$'
    done
}

# fail WHY...
fail() {
    { echo "opx: $*"; state; dmesg | tail -n 60; } >&2
    exit 1
}

# wait_for WHAT COMMAND...: until the command succeeds. The limit is for what hangs; a slow machine is given its time.
wait_for() {
    what=$1; shift
    end=$(($(cut -d . -f 1 /proc/uptime) + LIMIT))
    until "$@"; do
        [ "$(cut -d . -f 1 /proc/uptime)" -lt "$end" ] || fail "no $what in time"
        sleep 0.1
    done
    echo "opx: $what at $(now)"
}

# check NAME COMMAND...: the scenario fails when it fails.
check() {
    name=$1; shift
    echo "opx: start $name"
    "$@" || fail "failed $name: $?"
    echo "opx: passed $name at $(now)"
}

# has PATTERN COUNT COMMAND...: the command succeeds and prints that many lines with the pattern.
has() {
    pattern=$1; count=$2; shift 2
    "$@" >/tmp/said 2>&1; said=$?
    cat /tmp/said
    [ "$said" = 0 ] && [ "$(grep -c "$pattern" /tmp/said)" = "$count" ]
}

# pair SERVER CLIENT PORT: both must succeed. The client starts once the server listens.
pair() {
    timeout $LIMIT sh -c "exec $1" & server=$!
    wait_for "a listener on $3" sh -c "netstat -ltn | grep -q ':$3 '"
    timeout $LIMIT sh -c "exec $2"; client=$?
    wait $server; served=$?
    [ "$client" = 0 ] && [ "$served" = 0 ]
}

# The cable goes in once the driver has registered its InfiniBand devices: it crashes when a link comes up before
# (ib_cache_event_task).
connect() {
    ask plug
    wait_for INIT both "2: INIT"
}

# The stock fabric manager brings both ports to ACTIVE.
manage() {
    mkdir -p /var/usr/lib/opa-fm /var/lib/opa-fm /var/crash/opafm
    /usr/lib/opa-fm/bin/opafmd -D
    wait_for ACTIVE both "4: ACTIVE"
}

# ask WHAT: the host does it and says so.
ask() {
    echo "opx-ask: $1"
    read -r answer
    [ "$answer" = "done" ] || fail "the host answers $answer"
}

# The fabric manager ends; the ports stay as they are. The daemon starts a manager anew when one ends, so it goes first.
stop_manager() {
    kill $(pidof opafmd) 2>/dev/null
    wait_for "end of the daemon" sh -c '! pidof opafmd'
    kill $(pidof sm) 2>/dev/null
    wait_for "end of the manager" sh -c '! pidof sm'
}

# psm2 SIZES [ITERATIONS]
psm2() {
    pair "env PSM2_DEVICES=self,hfi HFI_UNIT=0 fi_pingpong -p psm2 -e rdm -c -S $1 ${2:+-I $2}" \
        "env PSM2_DEVICES=self,hfi HFI_UNIT=1 fi_pingpong -p psm2 -e rdm -c -S $1 ${2:+-I $2} 127.0.0.1" 47592
}

# rc SIZE
rc() {
    pair "ibv_rc_pingpong -d hfi1_0 -n 100 -s $1 -c" "ibv_rc_pingpong -d hfi1_1 -n 100 -s $1 -c 127.0.0.1" 18515
}

# ud SIZE
ud() {
    pair "ibv_ud_pingpong -d hfi1_0 -n 100 -s $1" "ibv_ud_pingpong -d hfi1_1 -n 100 -s $1 127.0.0.1" 18515
}

# counters MOMENT NAME...: the kernel's counters, for the host, while nothing is sent: the driver repeats traps to a manager
# that has ended. Those whose names match a pattern are added up.
counters() {
    moment=$1; shift
    wait_for "counters at rest" at_rest "$@"
    sed "s/^/opx-counter: $moment /" /tmp/counted
}

# at_rest NAME...: two looks find the same.
at_rest() {
    count "$@" >/tmp/counted
    count "$@" >/tmp/counted_again
    cmp -s /tmp/counted /tmp/counted_again
}

count() {
    for adapter in hfi1_0 hfi1_1; do
        for name; do
            sum=
            for file in /sys/class/infiniband/$adapter/hw_counters/$name \
                /sys/class/infiniband/$adapter/ports/1/hw_counters/$name; do
                [ -f "$file" ] && sum=$((sum + $(cat "$file")))
            done
            [ -n "$sum" ] || fail "no counter $name"
            echo "$adapter $name $sum"
        done
    done
}
