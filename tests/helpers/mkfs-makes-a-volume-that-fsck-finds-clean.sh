#!/bin/bash
# The ordinary case: a new file, its size, its mode, the summary, a clean check.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

expect_exit 0 mkfs.holtfs -s 64M -L "my files" volume
expect_output 'volume: holtfs volume of 64.0 MiB, UUID '
expect_output 'label "my files"'
[ ! -s errors ] || fail "mkfs complained: $(cat errors)"
expect_equal "$(stat -c %s volume)" $((64 << 20)) "size"
expect_equal "$(stat -c %a volume)" 600 "mode"

expect_exit 0 fsck.holtfs -n volume
expect_output "volume: clean, 0 files, 1 directories"
expect_exit 0 fsck.holtfs -n --data -v volume
expect_output "all data verified"
expect_output "directories  1"
expect_exit 0 fsck.holtfs -n -q volume
expect_silence

note "every volume has a UUID of its own"
mkfs.holtfs -s 16M one >one.txt
mkfs.holtfs -s 16M two >two.txt
[ "$(grep -o 'UUID [0-9a-f-]*' one.txt)" != "$(grep -o 'UUID [0-9a-f-]*' two.txt)" ] ||
  fail "two volumes with one UUID"
