#!/bin/bash
# cp -a of /usr/include; content, attributes and symlinks are the same before and
# after an unmount, and the volume is clean.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 2G
mount_volume
cp -a /usr/include "$mnt/include"
expect_same_tree /usr/include "$mnt/include"
unmount_volume
expect_clean --data
mount_volume
expect_same_tree /usr/include "$mnt/include"
rm -rf "$mnt/include"
[ -z "$(ls -A "$mnt")" ] || fail "rm -rf left something"
unmount_volume
expect_clean
