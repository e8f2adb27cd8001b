#!/bin/bash
# 0 clean, 8 cannot be checked, 16 wrong usage; 4 is in the tests of damage.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

mkfs.holtfs -q -s 32M volume
for mode in '' -n -p -a -y; do
  # An empty mode is no argument at all.
  # shellcheck disable=SC2086
  expect_exit 0 fsck.holtfs $mode volume
  # shellcheck disable=SC2086
  expect_exit 0 fsck.holtfs $mode -f volume
done
expect_exit 0 fsck.holtfs -p -a volume

expect_exit 16 fsck.holtfs
expect_error "no volume named"
expect_error "Try 'fsck.holtfs --help'."
expect_exit 16 fsck.holtfs volume volume
expect_error "more than one volume named"
expect_exit 16 fsck.holtfs -n -y volume
expect_error "only one of -n, -p (or -a) and -y"
expect_exit 16 fsck.holtfs -q -v volume
expect_error "-q and -v exclude each other"
expect_exit 16 fsck.holtfs --frobnicate volume

expect_exit 8 fsck.holtfs -n absent
expect_error "absent: No such file or directory"
expect_one_line_error fsck.holtfs
truncate -s 32M zeros
expect_exit 8 fsck.holtfs -n zeros
expect_error "not a holtfs volume"
: >empty
expect_exit 8 fsck.holtfs -n empty
expect_exit 8 fsck.holtfs -n .

note "a result that cannot be written is no success"
got=0
fsck.holtfs -n volume >/dev/full || got=$?
expect_equal "$got" 8 "exit code with a full standard output"
