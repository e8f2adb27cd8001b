#!/bin/bash
# A volume that lost its end is not walked as if it were whole.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

mkfs.holtfs -q -s 64M volume
truncate -s 40M volume
got=0
fsck.holtfs -n volume >output 2>errors </dev/null || got=$?
[ "$got" = 4 ] || [ "$got" = 8 ] || fail "exit code $got for a truncated volume"
[ -s errors ] || fail "not a word about it"
