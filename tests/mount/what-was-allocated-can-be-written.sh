#!/bin/bash
# fallocate(1) in all its modes, sparse copies, and the promise behind them: what was
# allocated can be written on a full volume, again and again, after a remount and after
# a kill.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

need_command fallocate

blocks() {
  stat -c %b "$1"
}

size() {
  stat -c %s "$1"
}

free_kib() {
  df -k --output=avail "$mnt" | tail -1
}

# zero MODEL OFFSET BYTES
zero() {
  dd if=/dev/zero of="$1" bs=1M seek="$2" count="$3" oflag=seek_bytes iflag=count_bytes \
    conv=notrunc status=none
}

make_volume 64M
mount_volume

note "space is taken, and reads as zeros"
before=$(free_kib)
fallocate -l 8M "$mnt/kept"
expect_equal "$(size "$mnt/kept")" $((8 << 20)) "size"
expect_equal "$(blocks "$mnt/kept")" $((8 << 11)) "sectors"
cmp -n $((8 << 20)) "$mnt/kept" /dev/zero
taken=$((before - $(free_kib)))
if [ "$taken" -lt 8192 ] || [ "$taken" -gt 9000 ]; then
  fail "8 MiB took $taken KiB"
fi
fallocate -n -l 9M "$mnt/kept"
expect_equal "$(size "$mnt/kept")" $((8 << 20)) "size kept"
expect_equal "$(blocks "$mnt/kept")" $((9 << 11)) "sectors behind the end"
truncate -s $((8 << 20)) "$mnt/kept"
expect_equal "$(blocks "$mnt/kept")" $((8 << 11)) "sectors after a truncation to the size it has"

note "holes are punched, ranges zeroed"
head -c 3000000 /dev/urandom >model
cp model "$mnt/file"
fallocate -p -o 100001 -l 1000000 "$mnt/file"
zero model 100001 1000000
cmp model "$mnt/file"
fallocate -z -o 2000000 -l 500000 "$mnt/file"
zero model 2000000 500000
cmp model "$mnt/file"
expect_equal "$(size "$mnt/file")" 3000000 "size"
sync "$mnt/file"
expect_equal "$(blocks "$mnt/file")" $((8 * (733 - 243))) "sectors"
fallocate -z -o 2900000 -l 300000 "$mnt/file"
truncate -s 3200000 model
zero model 2900000 300000
cmp model "$mnt/file"
remount_volume
cmp model "$mnt/file"

note "holes are found and kept by copies"
truncate -s 100M "$mnt/sparse"
dd if=model of="$mnt/sparse" bs=1M seek=50 conv=notrunc status=none
cp --sparse=auto "$mnt/sparse" "$mnt/copy"
cmp "$mnt/sparse" "$mnt/copy"
[ "$(blocks "$mnt/copy")" -le "$(blocks "$mnt/sparse")" ] || fail "the copy is larger"
cat "$mnt/sparse" >dense
cp --sparse=always dense "$mnt/again"
cmp dense "$mnt/again"
sync "$mnt/again"
[ "$(blocks "$mnt/again")" -le 7000 ] || fail "cp --sparse=always made $(blocks "$mnt/again") sectors"
cp model "$mnt/dig"
sync "$mnt/dig"
fallocate -d "$mnt/dig"
cmp model "$mnt/dig"
[ "$(blocks "$mnt/dig")" -le $((8 * (782 - 242 - 120 - 70))) ] ||
  fail "fallocate -d left $(blocks "$mnt/dig") sectors"
rm "$mnt/sparse" "$mnt/copy" "$mnt/again" "$mnt/dig"

note "what cannot be is refused"
expect_exit 1 fallocate -l 1G "$mnt/too-large"
expect_error "No space left on device"
expect_equal "$(blocks "$mnt/too-large")" 0 "sectors of what did not fit"
expect_equal "$(size "$mnt/too-large")" 0 "size of what did not fit"
expect_exit 1 fallocate -c -o 4096 -l 4096 "$mnt/file"
expect_error "not supported"
expect_exit 1 fallocate -o 8T -l 1 "$mnt/file"
expect_error "too large"

if is_root && command -v setpriv >/dev/null; then
  note "set-id bits go when somebody else allocates"
  remount_volume -o allow_other
  chmod 755 "$mnt"
  chmod 755 "$work_dir"
  touch "$mnt/set-id"
  chown 1000:1000 "$mnt/set-id"
  chmod 6755 "$mnt/set-id"
  setpriv --reuid 1000 --regid 1000 --clear-groups fallocate -l 10000 "$mnt/set-id"
  expect_equal "$(stat -c %a "$mnt/set-id")" 755 "mode"
fi

fill() {
  local i=0

  while head -c 2000000 /dev/urandom >"$mnt/$1.$i" && sync "$mnt/$1.$i"; do
    i=$((i + 1))
    [ "$i" -lt 100 ] || fail "a volume of 64 MiB took 200 MB"
  done 2>errors
  expect_error "No space left on device"
  for ((i = 0; i < 20000; i++)); do
    echo "$i" >"$mnt/$1.small.$i" || break
  done 2>errors
}

# A volume without space takes what was allocated before for file $1, in pieces of $2
# bytes.
write_8m() {
  head -c $((8 << 20)) /dev/urandom >model
  dd if=model of="$mnt/$1" bs="$2" conv=notrunc,fsync status=none ||
    fail "$(blocks "$mnt/$1") sectors were allocated, and pieces of $2 bytes do not fit"
  cmp model "$mnt/$1"
}

note "a full volume takes what was allocated"
fill first
note "$(find "$mnt" -type f | wc -l) files, $(free_kib) KiB available"
write_8m kept 128k
write_8m kept 10007
remount_volume
cmp model "$mnt/kept"
write_8m kept 1M
unmount_volume
expect_clean --data

note "a killed daemon takes nothing of it"
mount_volume
rm "$mnt"/first.*
fallocate -l 8M "$mnt/fresh"
fill second
sync "$mnt/fresh"
kill_daemon
mount_volume
expect_equal "$(blocks "$mnt/fresh")" $((8 << 11)) "sectors after a kill"
write_8m fresh 64k
fallocate -z -l 8M "$mnt/fresh"
cmp -n $((8 << 20)) "$mnt/fresh" /dev/zero
write_8m fresh 256k
fallocate -p -l 8M "$mnt/fresh"
cp model "$mnt/fresh"
sync "$mnt/fresh"
cmp model "$mnt/fresh"
unmount_volume
expect_clean --data
