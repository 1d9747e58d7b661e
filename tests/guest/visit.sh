# A new user's visit to a node with an adapter: the commands of the book, in its order, one file each. hfi1 has the adapter at
# first, and so has the other one at the end of its cable.
mkdir -p /home/user /etc/modprobe.d
chown user /home/user
# What the Debian package's file for pam_limits gives to the members of the group.
ulimit -l 262144
wait_for "links" grep -q "2: INIT" /sys/class/infiniband/hfi1_0/ports/1/state
wait_for "links" grep -q "2: INIT" /sys/class/infiniband/hfi1_1/ports/1/state
for file in /visit/*; do
    name=${file##*/}
    case $name in
        *-root) as=root ;;
        *) as=user ;;
    esac
    step "$name" su -s /busybox/sh $as -c "cd /home/user; export HOME=/home/user USER=user; . $file"
done

# No udev runs here: the program of its rule by itself, for the adapter's group and for the first one, a part of the board.
program() { sed -n 's/.*PROGRAM="\([^"]*\)".*/\1/p' /usr/lib/udev/rules.d/60-opx.rules | sed "s/%k/$1/; s/\\$\\$/$/"; }
group=$(basename "$(readlink $device/iommu_group)")
[ -e /bin/sh ] || ln -s /busybox/sh /bin/sh
step udev-adapter sh -c "$(program "$group")"
step udev-other sh -c "$(program 0)"
