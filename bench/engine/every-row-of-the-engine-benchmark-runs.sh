#!/bin/bash
# Every row runs with a few keys, with every engine; the JSON file has a figure for each;
# the directory given is as empty afterwards as before.
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need "one of:${BENCH_MISSING:-} (then configure again)" test -z "${BENCH_MISSING:-}"
bench=$top_builddir/bench/engine/bench-engine

has_row() {
  grep -q "\"name\": \"$1\", \"peer\": \"$2\"" bench-engine.json || fail "no figure for $1 with $2"
}

mkdir data
BENCH_DIR=$PWD/data BENCH_SIZES=1600 BENCH_ROUNDS=1 BENCH_SLICE_MS=1 \
  BENCH_ROWS='fs/*,objstore/list*,objstore/metadata_mix,kv/get,kv/put' "$bench"

for peer in lmdb rocksdb sqlite; do
  for row in get put list list_values list_page list_dir mixed create_delete rename \
    metadata_mix get_2_threads put_2_threads put_lossy put_sync put_sync_16_threads \
    disk_sorted disk_random memory; do
    has_row "fs/$row/1600" "$peer"
  done
  has_row objstore/list_dir/1600 "$peer"
  has_row kv/put/1600 "$peer"
done
for peer in lmdb rocksdb; do
  has_row fs/cold_get/1600 "$peer"
done
has_row fs/put/1600 lmdb-writemap
for row in fill_random/1600 checkpoint/1600 checkpoint_put_p999/1600 recovery/1600 \
  move_prefix/8 move_prefix/800 drop_prefix/8 drop_prefix/800; do
  has_row "fs/$row" ""
done
has_row fs/scaling_put/1600 two-processes
[ -z "$(ls data)" ] || fail "left behind: $(ls data)"
