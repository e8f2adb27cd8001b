#!/bin/bash
# A large new volume takes little of its host: the journal, not the whole size.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

expect_exit 0 mkfs.holtfs -q -s 4G volume
expect_equal "$(stat -c %s volume)" $((4 << 30)) "size"
used=$(($(stat -c %b volume) * 512))
[ "$used" -lt $((128 << 20)) ] || fail "a new 4 GiB volume takes $used bytes of its host"
