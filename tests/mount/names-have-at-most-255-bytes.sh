#!/bin/bash
# 255 bytes are a name, 256 are ENAMETOOLONG; any byte but / and NUL is allowed;
# symlinks have up to 4095.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 64M
mount_volume
longest=$(printf 'n%.0s' {1..255})
echo long >"$mnt/$longest"
mkdir "$mnt/d" "$mnt/d/$longest"
for command in "touch $mnt/${longest}n" "mkdir $mnt/d/${longest}n" \
  "mv $mnt/$longest $mnt/d/${longest}n" "ln -s x $mnt/${longest}n" "stat $mnt/${longest}n"; do
  # Words on purpose.
  # shellcheck disable=SC2086
  expect_exit 1 $command
  expect_error "File name too long"
done

odd=$'a\tb\nc\x01\xff "\'\\'
echo odd >"$mnt/$odd"
target=$(printf 't%.0s' {1..4095})
ln -s "$target" "$mnt/link"
remount_volume
expect_equal "$(cat "$mnt/$longest")" long "the file with the longest name"
expect_equal "$(cat "$mnt/$odd")" odd "the file with the odd name"
expect_equal "$(readlink "$mnt/link")" "$target" "the longest symlink"
rm -r "${mnt:?}/$longest" "${mnt:?}/$odd" "$mnt/link" "$mnt/d"
[ -z "$(ls -A "$mnt")" ] || fail "rm left something"
unmount_volume
expect_clean
