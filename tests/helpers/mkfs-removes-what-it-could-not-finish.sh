#!/bin/bash
# A host without room for the journal: the failure is reported, the new file goes.
# A file that was there before stays.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need "root" is_root
mkdir small
need "mounting a tmpfs" mount -t tmpfs -o size=4M none small
at_end umount small
expect_exit 1 mkfs.holtfs -s 64M small/volume
expect_error "small/volume"
expect_error "no space left"
[ ! -e small/volume ] || fail "an unfinished volume was left behind"

truncate -s 64M small/volume
expect_exit 1 mkfs.holtfs small/volume
[ -e small/volume ] || fail "a file that mkfs did not create was removed"
expect_exit 8 fsck.holtfs -n small/volume
expect_error "not a holtfs volume"
