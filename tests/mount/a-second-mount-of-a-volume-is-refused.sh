#!/bin/bash
# One volume, one user: a second mount, fsck and mkfs of a mounted volume are refused
# with a line that says why, and the first mount goes on.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 64M
mount_volume
echo before >"$mnt/file"
mkdir other
got=0
holtfs "$volume" other -f >output 2>errors </dev/null || got=$?
[ "$got" != 0 ] || fail "a second mount succeeded"
expect_error "$volume"
grep -qiE "in use|mounted" errors || fail "the message does not say that it is in use: $(cat errors)"
if grep -qF " $work_dir/other " /proc/self/mountinfo; then
  fail "the second mount is there"
fi

expect_exit 8 fsck.holtfs -n "$volume"
expect_error "$volume is mounted on $mnt; unmount it first"
expect_exit 1 mkfs.holtfs "$volume"
expect_error "$volume is mounted on $mnt; unmount it first"
expect_exit 1 mkfs.holtfs -f "$volume"
expect_error "$volume is mounted on $mnt; unmount it first"

echo after >>"$mnt/file"
expect_equal "$(tr '\n' ' ' <"$mnt/file")" "before after " "the file of the first mount"
unmount_volume
expect_clean
