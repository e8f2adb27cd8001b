#!/bin/bash
# A daemon killed in the middle of work, again and again on one volume: always clean,
# always what was synced; TEST_LONG makes it 100 rounds.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

rounds=5
[ -z "${TEST_LONG:-}" ] || rounds=100
seed=${TEST_SEED:-$RANDOM}
echo "TEST_SEED=$seed"
RANDOM=$seed

# Works until the mount is gone.
busy() {
  local i

  for ((i = 0; ; i++)); do
    cp -a "$small_tree" "$mnt/busy.$i" || return 0
    mv "$mnt/busy.$i" "$mnt/moved.$i" || return 0
    rm -rf "$mnt/moved.$((i - 1))" || return 0
  done
}

make_volume 1G
mount_volume
for ((round = 1; round <= rounds; round++)); do
  rm -rf "$mnt"/busy.* "$mnt"/moved.*
  head -c $((RANDOM * 10)) /dev/urandom >"$work_dir/kept.$round"
  cp "$work_dir/kept.$round" "$mnt/kept.$round"
  sync "$mnt/kept.$round"
  busy 2>busy-errors &
  busy_pid=$!
  sleep "0.$((RANDOM % 10))$((RANDOM % 10))"
  kill_daemon
  wait "$busy_pid"
  expect_clean
  mount_volume
  for ((k = 1; k <= round; k++)); do
    cmp "$work_dir/kept.$k" "$mnt/kept.$k" || fail "round $round: kept.$k was synced, and is lost"
  done
done
unmount_volume
expect_clean --data
