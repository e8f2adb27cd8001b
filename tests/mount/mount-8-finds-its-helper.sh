#!/bin/bash
# mount -t holtfs and -t fuse.holtfs, a line of fstab and a remount, through mount(8)
# itself.  The helper is put into a copy of /sbin that only this test sees.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

need "root" is_root
need_command unshare
make_volume 64M
mkdir upper work
cp "$(command -v mount.holtfs)" upper/
ln -s mount.holtfs upper/mount.fuse.holtfs
chmod 755 upper "$work_dir"

cat >inside.sh <<'END'
set -euo pipefail
mount -t overlay -o "lowerdir=$(realpath /sbin),upperdir=$1/layer/upper,workdir=$1/layer/work" none \
  "$(realpath /sbin)" || exit 77
cd "$1"

wait_for_daemon() {
  flock -w 20 volume true
}

for type in holtfs fuse.holtfs; do
  mount -t "$type" -o noatime,commit=2 volume mnt
  echo "$type" >>mnt/log
  grep " $1/mnt " /proc/self/mountinfo
  umount mnt
  wait_for_daemon
done

mount -t holtfs -o ro volume mnt
[ "$(tr '\n' ' ' <mnt/log)" = "holtfs fuse.holtfs " ]
umount mnt
wait_for_daemon

fstab=$1/fstab
echo "$1/volume $1/mnt holtfs noauto,nofail,x-systemd.automount,nodev 0 0" >"$fstab"
mount --fstab "$fstab" "$1/mnt"
echo fstab >>mnt/log
mount -o remount,ro mnt
if echo too late 2>/dev/null >>mnt/log; then
  echo "written after a remount to read-only"
  exit 1
fi
umount mnt
wait_for_daemon
END

# upperdir must not lie on an overlay, which /tmp of a container may be.
mkdir layer
mount -t tmpfs none layer
at_end umount layer
cp -a upper work layer/
got=0
unshare --mount --propagation private bash -x inside.sh "$work_dir" >output 2>errors </dev/null || got=$?
if [ "$got" = 77 ]; then
  skip "no overlay file system to put the helper in: $(tail -1 errors)"
fi
if [ "$got" != 0 ]; then
  cat output errors
  fail "exit code $got"
fi
expect_clean
