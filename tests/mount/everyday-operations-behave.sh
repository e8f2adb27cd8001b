#!/bin/bash
# What programs expect of a file system, one fact after another.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 128M
mount_volume
cd "$mnt"

note "modes, times, owners"
umask 022
echo text >file
mkdir directory
expect_equal "$(stat -c %a file)" 644 "mode of a file"
expect_equal "$(stat -c %a directory)" 755 "mode of a directory"
chmod 6750 file
expect_equal "$(stat -c %a file)" 6750 "mode after chmod"
touch -d '2001-02-03 04:05:06.123456789 UTC' file
expect_equal "$(TZ=UTC stat -c %y file)" "2001-02-03 04:05:06.123456789 +0000" "time after touch"
expect_equal "$(stat -c '%u %g' file)" "$(id -u) $(id -g)" "owner"
expect_equal "$(stat -c '%h' directory)" 2 "links of an empty directory"
mkdir directory/below
expect_equal "$(stat -c '%h' directory)" 3 "links of a directory with one below"

note "appending, truncating, holes"
echo more >>file
expect_equal "$(tr '\n' ' ' <file)" "text more " "after appending"
truncate -s 1000000 file
expect_equal "$(stat -c %s file)" 1000000 "size after growing"
expect_equal "$(tail -c 999990 file | tr -d '\0' | wc -c)" 0 "bytes in the hole"
truncate -s 4 file
expect_equal "$(cat file)" text "after shrinking"

note "renames"
echo one >one
echo two >two
mv -T one two
expect_equal "$(cat two)" one "a file renamed over another"
[ ! -e one ] || fail "the old name is still there"
mkdir -p full/of/things empty
expect_exit 1 mv -T directory full
expect_error "not empty"
mv -T directory empty
[ -d empty/below ] || fail "a directory renamed over an empty one lost its content"
expect_exit 1 mv -T full full/of/itself
expect_exit 1 mv -T two full
mv -n two full/of/
[ -e full/of/two ] || fail "a move into a directory failed"
mv full moved
expect_equal "$(cat moved/of/two)" one "a file below a renamed directory"

note "removing"
expect_exit 1 rmdir moved
expect_error "not empty"
expect_exit 1 rmdir moved/of/two
expect_exit 1 unlink moved
exec 5<moved/of/two
rm moved/of/two
expect_equal "$(cat <&5)" one "an open file without a name"
exec 5<&-
rm -r moved empty
expect_exit 1 rm absent
expect_error "No such file"

note "special files"
mkfifo fifo
ln -s /nowhere link
expect_equal "$(readlink link)" /nowhere "the symlink"
expect_equal "$(stat -c %F fifo)" fifo "type of the fifo"
(echo through >fifo) &
expect_equal "$(cat fifo)" through "what went through the fifo"
wait $!
if is_root; then
  mknod device c 1 3
  expect_equal "$(stat -c '%F %t %T' device)" "character special file 1 3" "the device"
fi

note "exclusive creation, and the free space falls"
echo x >file
if (set -o noclobber && : >file) 2>/dev/null; then
  fail "an exclusive creation of an existing file succeeded"
fi
free() {
  stat -f -c %a "$mnt"
}
before=$(free)
head -c 10000000 /dev/urandom >large
sync large
[ "$(free)" -lt "$before" ] || fail "10 MB written, and the free space is the same"
expect_equal "$(stat -f -c %s .)" 4096 "block size"

cd "$work_dir"
list_tree "$mnt" >before-list
remount_volume
list_tree "$mnt" >after-list
diff before-list after-list || fail "names or attributes changed over a remount"
unmount_volume
expect_clean --data
