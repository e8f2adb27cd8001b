#!/bin/bash
# A volume is not formatted again by accident, not even with a damaged superblock;
# -f does it, and makes a new one.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

mkfs.holtfs -s 32M volume >first.txt
cp volume before
expect_exit 1 mkfs.holtfs volume
expect_error "volume holds a holtfs volume; -f overwrites it"
expect_one_line_error mkfs.holtfs
expect_exit 1 mkfs.holtfs -s 64M volume
cmp volume before || fail "a refused mkfs changed the volume"

dd if=/dev/zero of=volume bs=4096 count=1 conv=notrunc status=none
expect_exit 1 mkfs.holtfs volume
expect_error "holds a holtfs volume"

expect_exit 0 mkfs.holtfs -f volume
cp output second.txt
cmp -s first.txt second.txt && fail "formatted again, but the UUID is the same"
expect_exit 0 fsck.holtfs -n volume
