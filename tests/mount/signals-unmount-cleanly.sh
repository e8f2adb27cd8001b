#!/bin/bash
# SIGTERM and SIGINT: the daemon writes everything, unmounts, ends with 0.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 128M
for signal in TERM INT; do
  mount_volume
  cp -a "$small_tree" "$mnt/tree.$signal"
  kill -"$signal" "$daemon_pid"
  reap_daemon
  expect_equal "$daemon_exit" 0 "exit code after SIG$signal"
  if is_mounted; then
    fail "still mounted after SIG$signal"
  fi
  expect_clean
done
mount_volume
for signal in TERM INT; do
  expect_same_tree "$small_tree" "$mnt/tree.$signal"
done
unmount_volume
