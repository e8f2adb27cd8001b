#!/bin/bash
# A fresh mount takes less than 40 MiB, and wakes up next to never while nothing is
# asked of it.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

[ -z "${SANITIZER_FLAGS:-}" ] || skip "a sanitizer has memory and threads of its own"

make_volume 1G
mount_volume
echo something >"$mnt/file"
sync "$mnt/file"
ls "$mnt" >/dev/null

resident_kib() {
  awk '/^VmRSS:/ { print $2 }' "/proc/$daemon_pid/status"
}
resident=$(resident_kib)
note "resident: $resident KiB"
[ "$resident" -lt 40960 ] || fail "an idle mount takes $resident KiB"

wake_ups() {
  cat "/proc/$daemon_pid"/task/*/status |
    awk '/ctxt_switches/ { sum += $2 } END { print sum }'
}
note "the last commits come to an end first"
before=-1
settled() {
  local now
  now=$(wake_ups)
  [ "$now" = "$before" ] && return
  before=$now
  sleep 2
  return 1
}
wait_for 30 settled || fail "the daemon never comes to rest"
before=$(wake_ups)
sleep 5
after=$(wake_ups)
note "$((after - before)) wake-ups in 5 idle seconds"
[ $((after - before)) -le 5 ] || fail "$((after - before)) wake-ups in 5 idle seconds"
unmount_volume
