#!/bin/bash
# A file behind a loop device is in somebody else's hands, and so is a device that
# is mounted.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need "root" is_root
need_command losetup mkfs.ext4
losetup -f >/dev/null 2>&1 || skip "no loop device"

truncate -s 32M volume
loop=$(losetup -f --show volume) || skip "a loop device cannot be attached"
at_end losetup -d "$loop"
expect_exit 1 mkfs.holtfs volume
expect_error "volume is attached to $loop; detach it first"

mkfs.ext4 -q "$loop"
mkdir mnt
mount "$loop" mnt
at_end umount mnt
expect_exit 1 mkfs.holtfs "$loop"
expect_error "$loop is mounted on $PWD/mnt; unmount it first"
expect_exit 1 mkfs.holtfs -f "$loop"
expect_error "$loop is mounted on $PWD/mnt; unmount it first"
touch mnt/still-there
