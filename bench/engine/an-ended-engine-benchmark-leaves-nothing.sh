#!/bin/bash
# SIGTERM ends the engine benchmark, and what it wrote is removed.
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need "one of:${BENCH_MISSING:-} (then configure again)" test -z "${BENCH_MISSING:-}"
bench=$top_builddir/bench/engine/bench-engine

mkdir data
BENCH_DIR=$PWD/data BENCH_SIZES=1600 BENCH_ROWS=fs/get BENCH_SLICE_MS=60000 "$bench" &
pid=$!
for _ in $(seq 600); do
  [ -z "$(ls data)" ] || [ -z "$(ls data/*)" ] || break
  sleep 0.1
done
[ -n "$(ls data/*)" ] || fail "it made nothing"
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
[ "$status" = 143 ] || fail "status $status, not 143"
[ -z "$(ls data)" ] || fail "left behind: $(ls data)"
[ ! -e bench-engine.json ] || fail "wrote figures that it did not finish"
