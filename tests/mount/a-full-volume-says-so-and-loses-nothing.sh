#!/bin/bash
# Filling a volume: the writer gets ENOSPC, what was there stays whole, removing makes
# room again, and the volume survives a remount in between.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 64M
mount_volume
head -c 5000000 /dev/urandom >kept
cp kept "$mnt/kept"
sync "$mnt/kept"

fill() {
  local i=0

  # The file that does not fit ends the loop.
  while head -c 2000000 /dev/zero | tr '\0' "$1" >"$mnt/$1.$i" && sync "$mnt/$1.$i"; do
    i=$((i + 1))
    [ "$i" -lt 100 ] || fail "a volume of 64 MiB took 200 MB"
  done 2>errors
  expect_error "No space left on device"
  note "$i files of 2 MB fit"
  [ "$i" -ge 10 ] || fail "only $i files of 2 MB fit into 64 MiB"
}

for letter in a b; do
  fill "$letter"
  cmp kept "$mnt/kept" || fail "an old file changed"
  remount_volume
  cmp kept "$mnt/kept" || fail "an old file changed over the remount"
  for ((k = 0; ; k++)); do
    [ -e "$mnt/$letter.$((k + 1))" ] || break
    expect_equal "$(tr -d "$letter" <"$mnt/$letter.$k" | wc -c)" 0 "foreign bytes in $letter.$k"
    expect_equal "$(stat -c %s "$mnt/$letter.$k")" 2000000 "size of $letter.$k"
  done
  rm "$mnt/$letter".*
done

note "many small files run out of space as well, and can be removed"
mkdir "$mnt/small"
i=0
while echo "$i" >"$mnt/small/$i"; do
  i=$((i + 1))
  [ "$i" -lt 60000 ] || break
done 2>errors
note "$i small files"
rm -rf "$mnt/small"
cp kept "$mnt/kept-2"
sync "$mnt/kept-2"
cmp kept "$mnt/kept-2"
unmount_volume
expect_clean --data
