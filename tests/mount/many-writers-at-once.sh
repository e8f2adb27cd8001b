#!/bin/bash
# Processes that create, write, rename and remove side by side, in one directory and
# in their own: everything ends up as each of them left it.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

make_volume 1G
mount_volume
mkdir "$mnt/shared"

writer() {
  local id=$1 i

  mkdir "$mnt/own.$id"
  for ((i = 0; i < 50; i++)); do
    seq -f "writer $id line %g" $((i * 20)) >"$mnt/shared/$id.$i.new"
    mv "$mnt/shared/$id.$i.new" "$mnt/shared/$id.$i"
    cp "$mnt/shared/$id.$i" "$mnt/own.$id/$i"
    if ((i % 3 == 0)); then
      rm "$mnt/shared/$id.$i"
    fi
  done
}

pids=()
for id in {1..8}; do
  writer "$id" &
  pids+=($!)
done
for pid in "${pids[@]}"; do
  wait "$pid" || fail "a writer failed"
done

check_all() {
  local id i

  for id in {1..8}; do
    for ((i = 0; i < 50; i++)); do
      seq -f "writer $id line %g" $((i * 20)) | cmp - "$mnt/own.$id/$i"
      if ((i % 3 == 0)); then
        [ ! -e "$mnt/shared/$id.$i" ] || fail "removed, and still there: $id.$i"
      else
        cmp "$mnt/shared/$id.$i" "$mnt/own.$id/$i"
      fi
    done
  done
  expect_equal "$(find "$mnt/shared" -type f | wc -l)" $((8 * 33)) "files in the shared directory"
}
check_all
remount_volume
check_all
unmount_volume
expect_clean --data
