#!/bin/bash
# mkfs.holtfs notes.txt: a file that holds anything is not overwritten without -f.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

echo "a year of notes" >notes.txt
expect_exit 1 mkfs.holtfs -s 32M notes.txt
expect_error "notes.txt holds data; -f overwrites it"
expect_equal "$(cat notes.txt)" "a year of notes" "content afterwards"
expect_exit 0 mkfs.holtfs -q -f -s 32M notes.txt
expect_exit 0 fsck.holtfs -n notes.txt
