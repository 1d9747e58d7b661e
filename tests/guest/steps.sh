# Seconds: see wait_for.
LIMIT=300
adapter=0000:01:00.0
device=/sys/bus/pci/devices/$adapter

# step NAME COMMAND...: runs it, and shows its output, its errors and its exit status to the host, which judges them.
step() {
    name=$1; shift
    "$@" >/tmp/out 2>/tmp/err </dev/null
    show "$name" $?
}

# show NAME STATUS: what is in /tmp/out and /tmp/err.
show() {
    sed "s/^/out $1: /" /tmp/out
    sed "s/^/err $1: /" /tmp/err
    echo "exit $1: $2"
}

# wait_for WHAT COMMAND...: until the command succeeds. The limit is for what hangs; a slow machine is given its time.
wait_for() {
    what=$1; shift
    end=$(($(cut -d . -f 1 /proc/uptime) + LIMIT))
    until "$@"; do
        [ "$(cut -d . -f 1 /proc/uptime)" -lt "$end" ] || { echo "opx: no $what in time"; cat /tmp/err; exit 1; }
        sleep 0.1
    done
}

# holds PID FILE: whether a process has a file open.
holds() { ls -l "/proc/$1/fd" 2>/dev/null | grep -q " $2\$"; }

# bind DRIVER: gives the adapter to it.
bind() {
    echo "$1" >$device/driver_override
    echo $adapter >/sys/bus/pci/drivers_probe
}
