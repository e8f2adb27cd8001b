#!/bin/bash
# What libblkid recognises is refused, named, and left alone; -f formats it so that
# nobody takes it for the old thing.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need_command mkfs.ext4 blkid
truncate -s 32M volume
mkfs.ext4 -q volume
cp volume before
expect_exit 1 mkfs.holtfs volume
expect_error "volume holds a file system (ext4); -f overwrites it"
expect_one_line_error mkfs.holtfs
cmp volume before || fail "a refused mkfs changed the file"

expect_exit 0 mkfs.holtfs -f volume
expect_equal "$(blkid -p -o value -s TYPE volume || true)" "" "what blkid sees afterwards"
expect_exit 0 fsck.holtfs -n volume
