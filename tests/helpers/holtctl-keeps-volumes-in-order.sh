#!/bin/bash
# stats, check, compact, checkpoint, and what all commands refuse.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

holtctl create --size=64M store
{
  echo 'holt-dump 1'
  for i in $(seq 1 3000); do
    printf 'key %05d\tvalue of number %d\n' $((i * 7919 % 3000)) "$i"
  done
  echo 'end 3000'
} >dump
holtctl load -q store <dump

note "stats"
expect_exit 0 holtctl stats store
grep -qE '^holt_volume_bytes +67108864$' output || fail "no size of the volume: $(cat output)"
expect_exit 0 holtctl stats --json store
grep -q '^{"holt_gets_total":0,.*"holt_volume_bytes":67108864,.*}$' output || fail "no JSON: $(cat output)"
expect_exit 0 holtctl stats --prometheus store
expect_output '# TYPE holt_volume_bytes gauge'
expect_output 'holt_volume_bytes 67108864'
if grep -vE '^(# (HELP|TYPE) holt_[a-z_]+ .+|holt_[a-z_]+ [0-9]+)$' output; then
  fail "not Prometheus text"
fi
expect_exit 2 holtctl stats --json --prometheus store

note "check, compact, checkpoint"
expect_exit 0 holtctl check store
expect_output "store: clean, 3000 keys"
expect_exit 0 holtctl check --quiet store
expect_silence
expect_exit 0 holtctl check --json store
expect_output '"keys":3000,'
expect_exit 0 holtctl compact store
expect_output "in use"
expect_exit 0 holtctl compact --quiet --prefix='key 0' store
expect_silence
expect_exit 0 holtctl compact --json store
expect_output '{"used_bytes_before":'
expect_exit 0 holtctl checkpoint store
expect_silence
expect_exit 0 holtctl checkpoint --verbose store

note "damage"
cp store damaged
# The second half of the volume's first frame is the other superblock; the tree is later.
printf 'x' | dd of=damaged bs=1 seek=100 conv=notrunc status=none
printf 'x' | dd of=damaged bs=1 seek=$((262144 + 100)) conv=notrunc status=none
expect_exit 4 holtctl check damaged
expect_exit 1 holtctl ls damaged
expect_error "damaged: damaged"

note "in use"
exec 9<>store
flock -x 9
expect_exit 1 holtctl put store key value
expect_error "store: in use by another program"
flock -u 9

note "wrong usage"
expect_exit 2 holtctl
expect_error "no command given"
expect_exit 2 holtctl frobnicate store
expect_error "there is no command 'frobnicate'"
expect_error "Try 'holtctl --help'."
expect_exit 2 holtctl ls
expect_error "no volume named"
expect_exit 2 holtctl get store
expect_error "get needs a key behind the volume"
expect_exit 2 holtctl ls store key
expect_error "ls does not take 'key'"
expect_exit 2 holtctl ls --raw store
expect_error "ls does not take --raw"
expect_exit 2 holtctl get --force store key
expect_error "get does not take --force"
expect_exit 2 holtctl get --long store key
expect_error "get does not take --long"
expect_exit 2 holtctl put store key
expect_error "put needs a value behind the key, or --stdin"
expect_exit 2 holtctl put --stdin store key value
expect_exit 2 holtctl put --if-absent --if-version=1 store key value
expect_error "--if-absent and --if-version exclude each other"
expect_exit 2 holtctl put --if-version=x store key value
expect_error "'x' is not a number"
expect_exit 2 holtctl ls --limit=-1 store
expect_exit 2 holtctl ls --delimiter=ab store
expect_error "'ab': the delimiter is one byte"
expect_exit 2 holtctl ls --prefix='\q' store
expect_error "'\\q': \\ is followed by \\, t, n or xHH"
expect_exit 2 holtctl get store 'a\x0'
expect_exit 2 holtctl create --size=big new
expect_error "'big' is not a size"
expect_exit 2 holtctl ls --frobnicate store
expect_exit 1 holtctl create --size=1M new
[ ! -e new ] || fail "a refusal left a file behind"
expect_exit 1 holtctl ls absent
expect_error "absent: No such file or directory"
: >empty
expect_exit 1 holtctl ls empty
expect_error "empty: not a store"
