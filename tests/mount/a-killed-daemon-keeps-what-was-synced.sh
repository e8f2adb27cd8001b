#!/bin/bash
# sync FILE... and sync of the root directory, then kill -9: everything is there after
# the next mount, and the volume is clean before and after it.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 2G
mount_volume
cp -a /usr/include "$mnt/include"
sync_tree "$mnt/include"
kill_daemon
expect_clean --data
mount_volume
expect_same_tree /usr/include "$mnt/include"
unmount_volume
expect_clean
