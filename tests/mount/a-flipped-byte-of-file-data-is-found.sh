#!/bin/bash
# One bit of a file's data changes on the medium: reading it is EIO, never wrong bytes;
# the log names the file; everything else can be read; fsck.holtfs --data finds it.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 128M
mount_volume
cp -a "$small_tree" "$mnt/tree"
{
  head -c 300000 /dev/urandom
  echo "the quick brown needle"
  head -c 300000 /dev/urandom
} >original
cp original "$mnt/haystack"
unmount_volume
expect_clean --data

offset=$(grep -abo "the quick brown needle" "$volume" | head -1 | cut -d: -f1)
[ -n "$offset" ] || fail "the data is nowhere in the volume"
printf T | dd of="$volume" bs=1 seek="$offset" conv=notrunc status=none
expect_clean
expect_exit 4 fsck.holtfs -n --data "$volume"
expect_output "damage: "

mount_volume
expect_exit 1 cat "$mnt/haystack"
expect_error "Input/output error"
grep -q haystack "$daemon_log" || fail "no log line names the file"
head -c 100000 "$mnt/haystack" | cmp -n 100000 - original || fail "the undamaged part cannot be read"
expect_same_tree "$small_tree" "$mnt/tree"
cp original "$mnt/haystack"
cmp original "$mnt/haystack" || fail "written again, and still wrong"
unmount_volume
expect_clean --data
