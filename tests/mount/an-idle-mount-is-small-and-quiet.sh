#!/bin/bash
# A fresh mount takes less than 40 MiB, and comes to rest when nothing is asked of
# it: no timer goes on.
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
# Commits and checkpoints of what was written come first; then, rest.
quiet() {
  local before

  before=$(wake_ups)
  sleep 5
  last=$(($(wake_ups) - before))
  note "$last wake-ups in 5 seconds"
  [ "$last" -le 1 ]
}
wait_for 60 quiet || fail "after a minute still $last wake-ups in 5 idle seconds"
unmount_volume
