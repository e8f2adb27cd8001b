#!/bin/bash
# create, put, get, del: any bytes, conditions, exit codes.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

expect_help_and_version holtctl

expect_exit 0 holtctl create --size=64M --label=test store
expect_silence
expect_equal "$(stat -c %s store)" $((64 << 20)) "the size"
expect_exit 1 holtctl create --size=64M store
expect_error "store: exists already"

expect_exit 0 holtctl put store key value
expect_silence
expect_exit 0 holtctl get store key
expect_equal "$(cat output)" value "the value"
expect_exit 3 holtctl get store absent
expect_error "store: absent: no such key"
expect_one_line_error holtctl

note "any bytes, in one notation"
expect_exit 0 holtctl put store 'a\x00\xFF\\\t\n' '\x01b c'
expect_exit 0 holtctl get store 'a\x00\xff\x5c\x09\x0a'
expect_equal "$(cat output)" '\x01b c' "the value"
expect_exit 0 holtctl ls store
expect_output 'a\x00\xff\\\t\n'
printf "raw\\0\\n\\\\" >wanted
holtctl put --stdin store raw <wanted
holtctl get --raw store raw >got
cmp wanted got || fail "raw bytes changed on their way"
expect_exit 0 holtctl get --json store raw
expect_output '"key":"raw","value":"raw\\x00\\n\\\\"'
head -c 131072 /dev/zero >large-value
holtctl put --stdin store largest <large-value
holtctl get --raw store largest | cmp - large-value || fail "the largest value changed"
got=0
head -c 131073 /dev/zero | holtctl put --stdin store larger 2>errors || got=$?
expect_equal "$got" 1 "exit code for a value too long"
expect_error "larger: the value is too long"

note "conditions"
expect_exit 3 holtctl put --if-absent store key other
expect_error "key: exists already"
expect_exit 0 holtctl put --if-absent store new 1
holtctl get --json store new >output
version=$(sed 's/.*"version":\([0-9]*\).*/\1/' output)
expect_exit 3 holtctl put --if-version=1 store new 2
expect_error "new: the key has another version"
expect_exit 0 holtctl put --if-version="$version" store new 2
expect_exit 3 holtctl del --if-version="$version" store new
expect_exit 3 holtctl put --if-version=1 store absent 2
expect_exit 0 holtctl get store new
expect_equal "$(cat output)" 2 "the value"

expect_exit 0 holtctl del store new raw
expect_exit 3 holtctl del store largest absent key
expect_error "absent: no such key"
expect_exit 0 holtctl ls store
expect_equal "$(cat output)" 'a\x00\xff\\\t\n' "what is left"

note "a file system is left alone"
mkfs.holtfs -q -s 64M files
expect_exit 1 holtctl put files key value
expect_error "files: holds a file system; mount it to change it (or --force)"
expect_exit 1 holtctl del files N
expect_exit 1 holtctl load files
expect_exit 0 holtctl put --force files zzz value
expect_exit 0 holtctl del -f files zzz
expect_exit 0 fsck.holtfs -n files
