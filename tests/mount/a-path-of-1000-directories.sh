#!/bin/bash
# Directories nested 1000 deep, with short and with long names: made, walked, renamed
# at the top, removed.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 128M
mount_volume
deep=$(printf 'd/%.0s' {1..1000})
mkdir -p "$mnt/short/$deep"
echo bottom >"$mnt/short/${deep}file"

# A path longer than PATH_MAX is reached step by step.
name=$(printf 'x%.0s' {1..40})
mkdir "$mnt/long"
(
  cd "$mnt/long"
  perl -e 'for (1..1000) { mkdir $ARGV[0] or die; chdir $ARGV[0] or die; }
    open my $f, ">", "file" or die; print $f "bottom\n" or die; close $f or die;' "$name"
)
remount_volume
expect_equal "$(cat "$mnt/short/${deep}file")" bottom "the file at the bottom"
expect_equal "$(find "$mnt/short" -type d | wc -l)" 1001 "short directories"
expect_equal "$(find "$mnt/long" -type d | wc -l)" 1001 "long directories"
expect_equal "$(find "$mnt/long" -name file -execdir cat {} +)" bottom "the file below long names"
mv "$mnt/short" "$mnt/moved"
expect_equal "$(cat "$mnt/moved/${deep}file")" bottom "the file after a rename at the top"
sync "$mnt"
kill_daemon
expect_clean
mount_volume
expect_equal "$(cat "$mnt/moved/${deep}file")" bottom "the file after a kill"
rm -r "$mnt/moved" "$mnt/long"
unmount_volume
expect_clean
