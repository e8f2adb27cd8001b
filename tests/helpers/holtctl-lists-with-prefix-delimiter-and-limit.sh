#!/bin/bash
# ls: every option, plain and as JSON.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

# list WANTED OPTION...: the keys on one line.
list() {
  local wanted=$1
  shift

  expect_exit 0 holtctl ls "$@" store
  expect_equal "$(paste -sd' ' output)" "$wanted" "ls $*"
}

holtctl create --size=64M store
for key in a a/1 a/2/x a/2/y b/1 c; do
  holtctl put store "$key" "value of $key"
done

list 'a a/1 a/2/x a/2/y b/1 c'
list 'a a/1' --limit=2
list 'a/1 a/2/x a/2/y' --prefix=a/
list 'a a/ b/ c' --delimiter=/
list 'a/1 a/2/' --prefix=a/ --delimiter=/
list 'a/2/x a/2/y b/1 c' --start-after=a/1
list 'b/ c' --delimiter=/ --start-after=a/
list 'b/' --delimiter='\x2f' --start-after=a/ --limit=1
list '' --prefix=d
list 'c	value of c' --prefix=c --long
list 'c	value of c' --prefix=c -l --cache=16M

expect_exit 0 holtctl ls --json --delimiter=/ --limit=2 store
expect_equal "$(cat output)" '{"key":"a"}
{"prefix":"a/"}' "JSON"
expect_exit 0 holtctl ls --json --long --prefix=c store
grep -qE '^\{"key":"c","value":"value of c","version":[0-9]+\}$' output || fail "JSON: $(cat output)"

note "a listing that cannot be written is no success"
got=0
holtctl ls store >/dev/full 2>errors || got=$?
expect_equal "$got" 1 "exit code with a full standard output"
