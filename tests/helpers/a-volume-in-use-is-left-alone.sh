#!/bin/bash
# A lock on the volume, held by any program, keeps mkfs and fsck away; they wait some
# seconds for it to go.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need_command flock
mkfs.holtfs -q -s 16M volume
exec 5<volume
flock -x 5
expect_exit 8 fsck.holtfs -n volume
expect_error "volume: in use: mounted, or open in another program"
expect_one_line_error fsck.holtfs
cp volume before
expect_exit 1 mkfs.holtfs -f -s 32M volume
expect_error "volume: in use"
cmp volume before || fail "a volume in use was changed"

note "a lock that goes away in time is waited for"
fsck.holtfs -n volume >late-output 2>&1 5<&- &
pid=$!
flock -u 5
wait "$pid" || fail "fsck did not wait: $(cat late-output)"
