#!/bin/bash
# Not only file systems: partition tables (also the copy at the end) and swap space.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need_command sfdisk mkswap blkid
truncate -s 32M gpt
printf 'label: gpt\n,,L\n' | sfdisk -q gpt
expect_exit 1 mkfs.holtfs gpt
expect_error "gpt holds a partition table (gpt); -f overwrites it"
expect_exit 0 mkfs.holtfs -q -f gpt
expect_equal "$(blkid -p -o value -s PTTYPE gpt || true)" "" "partition table afterwards"

truncate -s 32M swap
chmod 600 swap
mkswap -q swap
expect_exit 1 mkfs.holtfs swap
expect_error "swap holds data (swap); -f overwrites it"
expect_exit 0 mkfs.holtfs -q -f swap
expect_equal "$(blkid -p -o value -s TYPE swap || true)" "" "signature afterwards"
