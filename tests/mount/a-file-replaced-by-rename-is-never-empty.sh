#!/bin/bash
# Write a new file, close it, rename it over the old one, no fsync anywhere; after a
# kill the name leads to one whole version.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 256M
mount_volume
for i in {1..20}; do
  echo "version 0 of $i, whole" >"$mnt/$i"
done
sync_tree "$mnt"
for round in 1 2 3; do
  for i in {1..20}; do
    for version in {1..5}; do
      echo "version $version of $i, whole" >"$mnt/$i.new"
      mv "$mnt/$i.new" "$mnt/$i"
    done
  done
  kill_daemon
  expect_clean
  mount_volume
  for i in {1..20}; do
    grep -qx "version [0-5] of $i, whole" "$mnt/$i" ||
      fail "round $round: $i holds '$(head -c 100 "$mnt/$i")'"
  done
done
unmount_volume
expect_clean
