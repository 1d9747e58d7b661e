# Two stacks in two network namespaces, over a path that loses 1 % of the packets and takes a millisecond.
step wire env OPX_WIRE_REQUIRED=1 OPX_WIRE_BYTES=$BYTES wire_namespaces --nocapture --color=never
