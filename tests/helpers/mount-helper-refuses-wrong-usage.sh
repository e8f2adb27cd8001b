#!/bin/bash
# Exit code 1 for wrong usage, 2 when there is no daemon to run.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

expect_exit 1 mount.holtfs
expect_error "a volume and a directory are needed"
expect_error "Try 'mount.holtfs --help'."
expect_exit 1 mount.holtfs volume
expect_exit 1 mount.holtfs a b c
expect_exit 1 mount.holtfs volume directory --frobnicate
expect_exit 1 mount.holtfs volume directory -N /proc/1/ns/mnt
expect_error "nsenter"

helper=$(command -v mount.holtfs)
mkdir empty
if [ ! -e "$(sed -n 's/^bindir = //p' "$top_builddir/Makefile" | head -1)/holtfs" ] &&
  [ ! -e /usr/local/bin/holtfs ]; then
  expect_exit 2 env PATH="$PWD/empty" "$helper" volume directory
  expect_error "cannot run holtfs: No such file or directory"
fi
