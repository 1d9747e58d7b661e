# Two emulators in two network namespaces, joined over a path that loses 1 % of the packets and takes a millisecond.
# By their paths: the shell has applets of these names that come first, and lack most of it.
ip=/usr/bin/ip tc=/usr/sbin/tc
set -e
$ip netns add a
$ip netns add b
$ip link add path netns a type veth peer name path netns b
for end in a b; do
    $ip -n $end link set path gso_max_segs 1 up
    $ip netns exec $end $tc qdisc add dev path root netem loss 1% delay 1ms
done
$ip -n a addr add 10.77.0.1/24 dev path
$ip -n b addr add 10.77.0.2/24 dev path
set +e
head -c $BYTES /dev/urandom >/tmp/file

$ip netns exec a opx-emu --socket /tmp/a.sock --wire listen:10.77.0.1:4791 >/tmp/emu-a 2>&1 & a=$!
$ip netns exec b opx-emu --socket /tmp/b.sock --wire connect:10.77.0.1:4791 >/tmp/emu-b 2>&1 & b=$!
for end in a b; do wait_for "socket of $end" grep -q ready /tmp/emu-$end; done

opx-loopback --json --adapter vfio-user:/tmp/a.sock --role receiver >/tmp/received 2>/tmp/received-err </dev/null & receiver=$!
step sender opx-loopback --json --adapter vfio-user:/tmp/b.sock --role sender --file /tmp/file
wait $receiver; status=$?
cp /tmp/received /tmp/out; cp /tmp/received-err /tmp/err
show receiver $status

# While the wire is still joined.
for emulator in $a $b; do kill -USR1 $emulator; done
for end in a b; do wait_for "statistics of $end" grep -q "wire .*connections" /tmp/emu-$end; done
for end in a b; do
    name=listening; [ $end = a ] || name=connecting
    sed -n 's/^wire [^ ]*: //p' /tmp/emu-$end >/tmp/out; cp /tmp/emu-$end /tmp/err
    show $name 0
done
$ip netns exec b $tc -s qdisc show dev path >/tmp/out; : >/tmp/err
show path 0
kill $a $b
