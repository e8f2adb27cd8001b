#!/bin/bash
# Not a volume, absent, truncated, damaged, a missing or unfit mount point: one line
# that names the object, a failure, and nothing mounted.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

# refused OBJECT TEXT ARGUMENT...
refused() {
  local object=$1 text=$2 got=0
  shift 2

  holtfs "$@" -f >output 2>errors </dev/null || got=$?
  [ "$got" != 0 ] || fail "mounted: $*"
  [ "$got" -lt 126 ] || fail "holtfs died with $got: $(cat errors)"
  expect_error "$object"
  grep -qiE "$text" errors || fail "the message does not say '$text': $(cat errors)"
  if is_mounted; then
    fail "refused, but mounted: $*"
  fi
}

refused absent "no such file" absent "$mnt"
truncate -s 64M zeros
refused zeros "not a holtfs" zeros "$mnt"
head -c 1M /dev/urandom >random
refused random "not a holtfs|too small" random "$mnt"
: >empty
refused empty "not a|too small" empty "$mnt"
refused "$work_dir" "neither|not a" "$work_dir" "$mnt"

mkfs.holtfs -q -s 64M truncated
truncate -s 20M truncated
refused truncated "damaged|truncated|smaller" truncated "$mnt"

mkfs.holtfs -q -s 64M headless
dd if=/dev/urandom of=headless bs=512K count=1 conv=notrunc status=none
refused headless "not a holtfs|damaged" headless "$mnt"

make_volume 64M
refused absent-directory "no such file" "$volume" absent-directory
: >file
refused file "not a directory" "$volume" file

note "one superblock is enough"
dd if=/dev/urandom of="$volume" bs=4096 count=1 conv=notrunc status=none
mount_volume
echo hello >"$mnt/file"
remount_volume
expect_equal "$(cat "$mnt/file")" hello "the file"
unmount_volume
expect_exit 0 fsck.holtfs -n "$volume"
