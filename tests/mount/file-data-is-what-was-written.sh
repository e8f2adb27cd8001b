#!/bin/bash
# Random reads, writes, truncations and mappings against a model, several processes
# at once, in both io back ends and with small and default caches; again after a
# remount.  TEST_LONG runs longer.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

steps=1500
[ -z "${TEST_LONG:-}" ] || steps=200000
first_seed=${TEST_SEED:-$RANDOM}
datacheck=$top_builddir/tests/mount/datacheck

make_volume 512M
for options in cache=8M,commit=0.1 io=sync; do
  mount_volume -o "$options"
  pids=()
  for i in 1 2 3; do
    TEST_SEED=$((first_seed + i)) "$datacheck" "$mnt/$i.$options" "$steps" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || fail "data differs; first seed $first_seed"
  done
  remount_volume -o "$options"
  for i in 1 2 3; do
    TEST_SEED=$((first_seed + i)) "$datacheck" "$mnt/$i.$options" "$steps" verify ||
      fail "data differs after a remount; first seed $first_seed"
  done
  unmount_volume
  expect_clean --data
done
