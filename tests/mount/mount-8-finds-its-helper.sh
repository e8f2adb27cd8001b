#!/bin/bash
# mount -t holtfs and -t fuse.holtfs, a line of fstab and a remount, through mount(8)
# itself.  Helper and daemon are laid over /sbin and /usr/bin, for this test's eyes only.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

need "root" is_root
need_command unshare
make_volume 64M
chmod 755 "$work_dir"

cat >inside.sh <<'END'
set -euo pipefail
add_layer() {
  mount -t overlay -o "lowerdir=$2,upperdir=$1,workdir=$1.work" none "$2" || exit 77
}
add_layer "$1/layer/sbin" "$(realpath /sbin)"
add_layer "$1/layer/bin" /usr/bin
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
mkdir -m 755 layer/sbin layer/bin layer/sbin.work layer/bin.work
cp "$(command -v mount.holtfs)" layer/sbin/
ln -s mount.holtfs layer/sbin/mount.fuse.holtfs
cp "$(command -v holtfs)" layer/bin/
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
