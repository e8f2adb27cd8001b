#!/bin/bash
# With -q a success is silent.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

expect_exit 0 mkfs.holtfs -q -s 16M short
expect_silence
expect_exit 0 mkfs.holtfs --quiet --size=16M --label=x long
expect_silence
