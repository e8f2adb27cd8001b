#!/bin/bash
# Either superblock is enough; the loss is noted, not called damage.  Without both
# there is nothing to check.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

mkfs.holtfs -q -s 32M volume
wipe_block() {
  dd if=/dev/urandom of="$1" bs=4096 seek="$2" count=1 conv=notrunc status=none
}

cp volume without-a
wipe_block without-a 0
expect_exit 0 fsck.holtfs -n without-a
expect_output "without-a: note: "
cp volume without-b
wipe_block without-b 64
expect_exit 0 fsck.holtfs -n without-b
expect_output "without-b: note: "
cp volume without-both
wipe_block without-both 0
wipe_block without-both 64
expect_exit 8 fsck.holtfs -n without-both
expect_error "not a holtfs volume"
