#!/bin/bash
# io=sync, io=uring and a kernel without io_uring: the same work, the same result.
# Falling back is said once, and io=uring without io_uring is refused.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

work() {
  cp -a "$small_tree" "$mnt/$1"
  expect_same_tree "$small_tree" "$mnt/$1"
  unmount_volume
  expect_clean --data
}

make_volume 512M
mount_volume -o io=sync
work sync
mount_volume -o io=auto
work auto

without_uring() {
  # Found by mount_volume, which runs `holtfs`.
  command "$top_builddir/tests/mount/without_uring" "$(command -v holtfs)" "$@"
}
mkdir wrapped
cat >wrapped/holtfs <<END
#!/bin/sh
exec '$top_builddir/tests/mount/without_uring' '$(command -v holtfs)' "\$@"
END
chmod +x wrapped/holtfs
: >"$daemon_log"
(
  PATH=$work_dir/wrapped:$PATH
  mount_volume
  work without
  said=$(grep -ci 'io_uring' "$daemon_log" || true)
  expect_equal "$said" 1 "number of lines about the missing io_uring"
)
got=0
without_uring "$volume" "$mnt" -f -o io=uring >output 2>errors </dev/null || got=$?
[ "$got" != 0 ] || fail "io=uring mounted without io_uring"
if is_mounted; then
  fail "io=uring failed, but something is mounted"
fi

mount_volume
for tree in sync auto without; do
  expect_same_tree "$small_tree" "$mnt/$tree"
done
unmount_volume
