#!/bin/bash
# Create, list, stat each, remove; and the same names still there after a remount.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 512M
mount_volume
"$top_builddir/tests/mount/dirload" "$mnt/directory" 10000
mkdir "$mnt/numbers"
(cd "$mnt/numbers" && seq 10000 | xargs touch)
remount_volume
expect_equal "$(find "$mnt/numbers" -type f | wc -l)" 10000 "files after a remount"
expect_equal "$(find "$mnt/numbers" | sort | uniq -d)" "" "names listed twice"
note "removing while listing takes every entry"
rm -r "$mnt/numbers"
unmount_volume
expect_clean
