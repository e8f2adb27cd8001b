#!/bin/bash
# Without allow_other a mount is its user's alone; with it, permissions decide.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

need "root" is_root
need_command setpriv
chmod 755 "$work_dir"
other() {
  setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}

make_volume 64M
mount_volume
echo mine >"$mnt/file"
expect_exit 1 other cat "$mnt/file"
expect_error "Permission denied"
unmount_volume

mount_volume -o allow_other
expect_exit 0 other cat "$mnt/file"
chmod 600 "$mnt/file"
expect_exit 1 other cat "$mnt/file"
expect_error "Permission denied"
expect_exit 1 other touch "$mnt/new"
mkdir -m 1777 "$mnt/shared"
expect_exit 0 other touch "$mnt/shared/theirs"
expect_equal "$(stat -c '%u %g' "$mnt/shared/theirs")" "65534 65534" "owner of another user's file"
echo ours >"$mnt/shared/ours"
expect_exit 1 other rm -f "$mnt/shared/ours"
expect_exit 1 other chmod 777 "$mnt/file"
unmount_volume
expect_clean
