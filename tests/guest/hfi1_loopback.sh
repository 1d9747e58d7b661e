# A port that is its own neighbour: to INIT by the driver, and healthy there. The fabric manager rightly refuses it.
wait_for INIT sh -c '[ "$(cat /sys/class/infiniband/hfi1_0/ports/1/state)" = "2: INIT" ]'
check opainfo has "PortState: *Init" 1 opainfo
check devinfo has "state:.*PORT_INIT" 1 ibv_devinfo
# It stays there, with the link up.
sleep 2
[ "$(port hfi1_0)" = "2: INIT" ] || fail "left INIT: $(port hfi1_0)"
[ "$(cat /sys/class/infiniband/hfi1_0/ports/1/phys_state)" = "5: LinkUp" ] || fail "the link is down"
