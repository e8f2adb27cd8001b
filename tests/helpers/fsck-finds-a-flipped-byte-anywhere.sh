#!/bin/bash
# A fresh volume has maps and a tree of a few blocks.  A byte flipped in any of them is
# either in what nobody refers to any more, or damage: exit code 4 and a line about it,
# never a crash.  The options that ask for repair say that there is none.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

mkfs.holtfs -q -s 32M volume
journal_end=$((17 * 128)) # blocks: 8 MiB of journal behind frame 0

# Numbers of the blocks behind the journal that are not all zeros.
used_blocks() {
  local block

  for ((block = journal_end; block < 32 * 256; block++)); do
    echo "$block"
  done | while read -r block; do
    cmp -s -n 4096 -i "$((block * 4096)):0" volume /dev/zero || echo "$block"
  done
}

damaged=0
for block in $(used_blocks); do
  cp --sparse=always volume copy
  byte=$((block * 4096 + 40))
  value=$(od -An -tu1 -j "$byte" -N 1 copy)
  printf '%b' "\\x$(printf %x $((value ^ 0x55)))" |
    dd of=copy bs=1 seek="$byte" conv=notrunc status=none
  got=0
  fsck.holtfs -n copy >output 2>errors </dev/null || got=$?
  case $got in
  0) ;;
  4)
    damaged=$((damaged + 1))
    expect_output "copy: damage: "
    expect_exit 4 fsck.holtfs -p copy
    expect_error "cannot repair"
    ;;
  *) fail "block $block: exit code $got: $(cat errors)" ;;
  esac
done
note "$damaged blocks matter"
[ "$damaged" -ge 5 ] || fail "only $damaged blocks of a fresh volume matter"
