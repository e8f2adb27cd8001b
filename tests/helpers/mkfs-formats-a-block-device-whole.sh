#!/bin/bash
# A block device needs no -s, and takes none but its own size.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need "root" is_root
need_command losetup
losetup -f >/dev/null 2>&1 || skip "no loop device"

truncate -s 40M backing
loop=$(losetup -f --show backing) || skip "a loop device cannot be attached"
at_end losetup -d "$loop"
expect_exit 1 mkfs.holtfs -s 20M "$loop"
expect_error "$loop: a block device is formatted whole; leave out -s"
expect_exit 0 mkfs.holtfs "$loop"
expect_output "40.0 MiB"
expect_exit 0 fsck.holtfs -n "$loop"
expect_exit 1 mkfs.holtfs "$loop"
expect_error "holds a holtfs volume"
expect_exit 0 mkfs.holtfs -f -s 40M "$loop"
expect_exit 0 fsck.holtfs -n "$loop"
