#!/bin/bash
# 63 bytes are a label, 64 are not; what the label says is arbitrary.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

label=$(printf 'x%.0s' {1..63})
expect_exit 0 mkfs.holtfs -s 16M -L "$label" volume
expect_output "label \"$label\""
expect_exit 1 mkfs.holtfs -s 16M -L "${label}x" other
expect_error "the label has 64 bytes; at most 63 are possible"
[ ! -e other ] || fail "a refused label made a file"
expect_exit 0 mkfs.holtfs -s 16M -L '' empty
if grep -q label output; then
  fail "an empty label is shown"
fi
expect_exit 0 mkfs.holtfs -s 16M -L 'grün %s' utf8
expect_output 'label "grün %s"'
