#!/bin/bash
# Wrong options and arguments: exit code 1, a message, a pointer to --help.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

expect_exit 1 mkfs.holtfs
expect_error "no volume named"
expect_error "Try 'mkfs.holtfs --help'."
expect_exit 1 mkfs.holtfs -s 16M one two
expect_error "more than one volume named"
expect_exit 1 mkfs.holtfs --frobnicate volume
expect_error "--frobnicate"
expect_exit 1 mkfs.holtfs -s
expect_exit 1 mkfs.holtfs absent
expect_error "absent: no such file; to create it say how large (-s SIZE)"
expect_one_line_error mkfs.holtfs
: >empty
expect_exit 1 mkfs.holtfs empty
expect_error "empty: the file is empty; say how large it shall be (-s SIZE)"
mkdir directory
expect_exit 1 mkfs.holtfs -s 16M directory
expect_error "directory: neither a regular file nor a block device"
expect_exit 1 mkfs.holtfs -s 16M /dev/null
expect_error "/dev/null: neither a regular file nor a block device"
expect_exit 1 mkfs.holtfs -s 16M absent-directory/volume
expect_error "absent-directory/volume: No such file or directory"
[ "$(find . -size +1M | wc -l)" = 0 ] || fail "a refusal left a file behind"
