#!/bin/bash
# -o ro: every change is EROFS, reading works, not a byte of the volume changes, and a
# file without write permission is enough.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 128M
mount_volume
cp -a "$small_tree" "$mnt/tree"
unmount_volume
cp "$volume" before
chmod 400 "$volume"

mount_volume -o ro
expect_same_tree "$small_tree" "$mnt/tree"
for command in "touch $mnt/new" "mkdir $mnt/new" "rm -r $mnt/tree" "mv $mnt/tree $mnt/other" \
  "chmod 700 $mnt/tree" "ln -s x $mnt/new" "truncate -s 0 $mnt/tree/fuse.h"; do
  # Words on purpose.
  # shellcheck disable=SC2086
  expect_exit 1 $command
  expect_error "Read-only file system"
done
unmount_volume
cmp "$volume" before || fail "a read-only mount changed the volume"

note "also after a crash: the log is replayed in memory"
chmod 600 "$volume"
mount_volume
echo synced >"$mnt/synced"
sync "$mnt/synced"
kill_daemon
cp "$volume" before
mount_volume -o ro
expect_equal "$(cat "$mnt/synced")" synced "the file from the log"
unmount_volume
cmp "$volume" before || fail "a read-only mount changed the crashed volume"
