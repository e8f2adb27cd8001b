#!/bin/bash
# Too small and too large are refused before anything is created or changed.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

for size in 1 4096 1M 16380K; do
  expect_exit 1 mkfs.holtfs -s "$size" volume
  expect_error "too small; a volume has at least 16.0 MiB"
  [ ! -e volume ] || fail "-s $size made a file"
done
expect_exit 1 mkfs.holtfs -s 9T volume
expect_error "too large; a volume has at most"
[ ! -e volume ] || fail "-s 9T made a file"

truncate -s 1M existing
expect_exit 1 mkfs.holtfs existing
expect_error "1.0 MiB is too small"
expect_exit 1 mkfs.holtfs -f existing
expect_equal "$(stat -c %s existing)" $((1 << 20)) "size afterwards"
