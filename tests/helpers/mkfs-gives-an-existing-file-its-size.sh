#!/bin/bash
# An existing zeroed file keeps its size without -s, and gets the asked one with it.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

truncate -s 32M volume
expect_exit 0 mkfs.holtfs volume
expect_output "32.0 MiB"
expect_equal "$(stat -c %s volume)" $((32 << 20)) "size"

: >grown
expect_exit 0 mkfs.holtfs -s 48M grown
expect_equal "$(stat -c %s grown)" $((48 << 20)) "size of what was empty"

truncate -s 64M shrunk
expect_exit 0 mkfs.holtfs -s 20M shrunk
expect_equal "$(stat -c %s shrunk)" $((20 << 20)) "size of what was larger"
for volume in volume grown shrunk; do
  expect_exit 0 fsck.holtfs -n "$volume"
done
