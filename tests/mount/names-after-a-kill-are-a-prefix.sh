#!/bin/bash
# Without any fsync a crash loses the newest changes only: of files made one after
# another, those that are left are the first ones.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 256M
for round in 1 2 3; do
  mount_volume -o commit=0.05
  mkdir "$mnt/$round"
  sync "$mnt/$round"
  i=0
  end=$((SECONDS + 2))
  while [ "$SECONDS" -lt "$end" ]; do
    : >"$mnt/$round/$i"
    i=$((i + 1))
  done
  kill_daemon
  expect_clean
  mount_volume
  left=$(find "$mnt/$round" -type f | wc -l)
  note "round $round: $left of $i files are left"
  [ "$left" -gt 0 ] || fail "nothing was committed in two seconds"
  for ((k = 0; k < left; k++)); do
    [ -e "$mnt/$round/$k" ] || fail "file $k is lost, though later ones are there"
  done
  unmount_volume
done
expect_clean
