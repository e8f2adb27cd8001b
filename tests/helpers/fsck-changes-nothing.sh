#!/bin/bash
# Not a byte of a volume changes by being checked, whatever the options; a file that
# may only be read is enough.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

mkfs.holtfs -q -s 32M volume
cp volume before
chmod 400 volume
for mode in -n -p -y "-y -f --data -v"; do
  # Words on purpose.
  # shellcheck disable=SC2086
  expect_exit 0 fsck.holtfs $mode volume
  cmp volume before || fail "fsck.holtfs $mode changed the volume"
done
