#!/bin/bash
# Sizes are numbers with an optional K, M, G or T; anything else is wrong usage, and
# no file appears.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

check_size() {
  rm -f volume
  expect_exit 0 mkfs.holtfs -q -s "$1" volume
  expect_equal "$(stat -c %s volume)" "$2" "size of -s $1"
}

check_size 16777216 16777216
check_size 16384K 16777216
check_size 16384k 16777216
check_size 16384KiB 16777216
check_size 17M $((17 << 20))
check_size 17MiB $((17 << 20))
check_size 1G $((1 << 30))
note "the size is rounded down to blocks of 4096 bytes"
check_size 16777217 16777216

rm -f volume
for size in '' 0 0M x 12x -5M 1.5G 16MB 16Mi M ' 16M' 0x100000000 16M16; do
  expect_exit 1 mkfs.holtfs -s "$size" volume
  expect_error "is not a size"
  [ ! -e volume ] || fail "-s '$size' made a file"
done
for size in 99999999999999999999 16777216T; do
  expect_exit 1 mkfs.holtfs -s "$size" volume
  [ ! -e volume ] || fail "-s '$size' made a file"
done
