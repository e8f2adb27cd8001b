#!/bin/bash
# Each example runs twice and prints what is beside it.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

for example in object_listing path_index session_store; do
  for _ in first second; do
    expect_exit 0 "$top_builddir/examples/$example" ./store
    [ ! -s errors ] || fail "$example complained: $(cat errors)"
    diff "$top_srcdir/examples/$example.expected" output || fail "$example prints something else"
    rm -f store
  done
done
