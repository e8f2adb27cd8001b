#!/bin/bash
# A read-only file system, a missing permission: one line that names the file.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

if is_root; then
  need_command setpriv
  # A directory that the other user can reach, and a file that it cannot write.
  chmod 755 .
  truncate -s 32M volume
  chmod 444 volume
  expect_exit 1 setpriv --reuid=65534 --regid=65534 --clear-groups \
    "$(command -v mkfs.holtfs)" volume
else
  truncate -s 32M volume
  chmod 444 volume
  expect_exit 1 mkfs.holtfs volume
fi
expect_error "volume: "
expect_one_line_error mkfs.holtfs
