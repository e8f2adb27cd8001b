#!/bin/bash
# Without -f holtfs returns when the mount can be used; a failure is reported by the
# command itself.  Also through mount.holtfs, as mount(8) runs it.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 64M
for command in "holtfs $volume $mnt" "mount.holtfs $volume $mnt -o rw,noauto" \
  "mount.holtfs $volume $mnt -n -o defaults"; do
  # Words on purpose.
  # shellcheck disable=SC2086
  expect_exit 0 $command
  is_mounted || fail "not mounted when '$command' returned"
  echo "$command" >>"$mnt/log"
  unmount_command
  note "fsck waits for the daemon to finish"
  expect_clean
done
expect_exit 0 holtfs "$volume" "$mnt"
expect_equal "$(wc -l <"$mnt/log")" 3 "lines of the log"
unmount_command
expect_clean

got=0
holtfs zeros "$mnt" >output 2>errors </dev/null || got=$?
[ "$got" != 0 ] || fail "mounting an absent volume succeeded"
expect_error zeros
