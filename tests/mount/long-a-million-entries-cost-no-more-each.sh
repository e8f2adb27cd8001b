#!/bin/bash
# A directory with a million entries: the time for each entry is at most 1.5 times
# that in a directory of 10 000, in every phase.  The small run is repeated and its
# median taken.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

TEST_TIMEOUT=7200
make_volume 8G
mount_volume
for run in 1 2 3 4 5; do
  "$top_builddir/tests/mount/dirload" "$mnt/small.$run" 10000 | tee -a small
done
"$top_builddir/tests/mount/dirload" "$mnt/large" 1000000 | tee large

# The Nth word of every line, the middle one.
median() {
  awk -v n="$1" '{ print $n }' small | sort -n | sed -n 3p
}
for phase in create:2 list:4 stat:6 remove:8; do
  small=$(median "${phase#*:}")
  large=$(awk -v n="${phase#*:}" '{ print $n }' large)
  ratio=$(awk -v s="$small" -v l="$large" 'BEGIN { printf "%.2f", l / s }')
  echo "${phase%:*}: $small us, $large us, ratio $ratio"
  awk -v r="$ratio" 'BEGIN { exit r > 1.5 }' || fail "${phase%:*} slows down by $ratio"
done
unmount_volume
expect_clean
