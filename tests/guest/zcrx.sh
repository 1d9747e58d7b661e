# opx-zcrx's tests on a kernel that has zero-copy receive, over loopback: as root, and as a user who may not.
step kernel env OPX_ZCRX=kernel zcrx-kernel --test-threads=1 --color=never
step user su -s /busybox/sh user -c "OPX_ZCRX=user exec zcrx-kernel a_user_without_the_right --color=never"
step stress zcrx-stress --kernel linux --bytes $BYTES --buffers 64 --owners 1 --importers 2
step pools zcrx-stress --kernel linux --bytes 64M --buffers 64 --owners 2 --importers 2
