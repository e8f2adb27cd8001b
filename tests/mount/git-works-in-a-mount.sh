#!/bin/bash
# init, add, commit, clone, gc, checkout, fsck: git maps files, renames, and checks
# every byte it stored.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

need_command git
export HOME=$work_dir GIT_CONFIG_NOSYSTEM=1
git config --global user.name tester
git config --global user.email tester@example.org
git config --global init.defaultBranch main
make_volume 1G
mount_volume

cp -a "$small_tree" "$mnt/one"
git -C "$mnt/one" init -q
git -C "$mnt/one" add -A
git -C "$mnt/one" commit -q -m "all of it"
git clone -q --no-hardlinks "$mnt/one" "$mnt/two"
git -C "$mnt/two" checkout -q -b branch
echo changed >"$mnt/two/fuse.h"
git -C "$mnt/two" commit -q -a -m "a change"
git -C "$mnt/two" gc -q
git -C "$mnt/two" checkout -q main
diff -r "$mnt/one" "$mnt/two" --exclude=.git
remount_volume
for repository in one two; do
  git -C "$mnt/$repository" fsck --full --strict --no-progress
  expect_equal "$(git -C "$mnt/$repository" status --porcelain)" "" "git status in $repository"
done
git -C "$mnt/two" checkout -q branch
expect_equal "$(cat "$mnt/two/fuse.h")" changed "the file of the branch"
unmount_volume
expect_clean
