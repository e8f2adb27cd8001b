#!/bin/bash
# The campaigns that take minutes: /usr/share copied, compared, killed, compared; and
# the tests that have a long form, in that form.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

TEST_TIMEOUT=7200
make_volume 16G
mount_volume
cp -a /usr/share "$mnt/share"
expect_same_tree /usr/share "$mnt/share"
remount_volume
expect_same_tree /usr/share "$mnt/share"
sync_tree "$mnt/share"
kill_daemon
expect_clean --data
mount_volume
expect_same_tree /usr/share "$mnt/share"
unmount_volume
expect_clean

export TEST_LONG=1 TEST_TIMEOUT
for name in kills-at-any-moment-leave-a-clean-volume holtfs-builds-on-holtfs \
  file-data-is-what-was-written; do
  bash "$top_srcdir/tests/mount/$name.sh"
done
