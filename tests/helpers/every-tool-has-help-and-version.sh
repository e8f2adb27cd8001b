#!/bin/bash
# Every tool answers --help and --version on standard output, and fails when that
# cannot be written.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

for program in mkfs.holtfs fsck.holtfs mount.holtfs; do
  expect_help_and_version "$program"
  for option in -h -V; do
    expect_exit 0 "$program" "$option"
  done
done

for command in "holtctl --help:1" "mkfs.holtfs --help:1" "fsck.holtfs --help:8" "mount.holtfs --help:2"; do
  got=0
  # The command is split into words on purpose.
  # shellcheck disable=SC2086
  ${command%:*} >/dev/full || got=$?
  expect_equal "$got" "${command#*:}" "exit code of '${command%:*}' to a full device"
done
