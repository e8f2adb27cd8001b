#!/bin/bash
# dump and load: both forms, all bytes, and dumps that are not whole.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

holtctl create --size=64M store
for byte in $(seq 0 255); do
  printf 'key\\x%02x\tvalue \\x%02x\\x00\n' "$byte" $((255 - byte))
done >items
{
  echo 'holt-dump 1'
  cat items
  printf 'empty\t\n'
  echo 'end 257'
} >made
expect_exit 0 bash -c 'holtctl load store <made'
expect_equal "$(cat output)" "257 keys loaded" "the answer"

holtctl dump store >first
holtctl create --size=64M second
expect_exit 0 bash -c 'holtctl load --quiet second <first'
expect_silence
holtctl dump second | cmp - first || fail "a dump changed by loading it"
holtctl dump --json store >json
holtctl create --size=64M third
expect_exit 0 bash -c 'holtctl load --json third <json'
expect_equal "$(cat output)" '{"loaded":257}' "the answer"
holtctl dump third | cmp - first || fail "a JSON dump changed by loading it"
holtctl dump --prefix='key\x0' store >/dev/null 2>&1 && fail "took half an escape"
expect_exit 0 holtctl dump --prefix='key\x01' store
expect_equal "$(wc -l <output)" 3 "lines of a dump of one key"

# refuse TEXT FILE: loading it fails and says so.
refuse() {
  holtctl create --size=64M "refused.$2"
  expect_exit 1 bash -c "holtctl load refused.$2 <$2"
  expect_error "$1"
  expect_one_line_error holtctl
}

head -100 first >half
refuse "line 101: the dump ends too early" half
sed 50d first >short
refuse "line 258: the dump lacks items before its end" short
echo 'something else' >other
refuse "line 1: not a dump that this version knows" other
: >nothing
refuse "line 1: not a dump that this version knows" nothing
printf 'holt-dump 1\nno tab\n' >no-tab
refuse "line 2: neither an item (KEY, a tab, VALUE) nor the end" no-tab
printf 'holt-dump 1\n\tvalue\nend 1\n' >no-key
refuse "line 2: a key has 1 to 65534 bytes" no-key
printf 'holt-dump 1\na\\q\tvalue\nend 1\n' >escape
refuse "line 2: \\ is followed by \\, t, n or xHH" escape
printf 'holt-dump 1\nend x\n' >no-count
refuse "line 2: the end without a count" no-count
printf '{"holt-dump":1}\n{"key":1}\n' >no-string
refuse 'line 2: neither {"key": ..., "value": ...} nor {"end": ...}' no-string
printf '{"holt-dump":1}\nnonsense\n' >no-json
refuse 'line 2: neither' no-json
