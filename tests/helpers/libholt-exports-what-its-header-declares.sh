#!/bin/bash
# The functions of holt.h, the version script, and the symbols of both libraries are one
# list.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need_command nm

sed -e ':a' -e 's|/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/||g' -e '/\/\*/{N;ba' -e '}' \
  "$top_srcdir/core/holt/holt.h" | grep -oE '\bholt_[a-z_]+\(' | tr -d '(' | sort -u >declared
[ "$(wc -l <declared)" -gt 30 ] || fail "no functions found in holt.h"

grep -oE '\bholt_[a-z_]+;' "$top_srcdir/core/holt/libholt.map" | tr -d ';' | sort >listed
diff declared listed || fail "libholt.map does not list what holt.h declares"

nm -D --defined-only "$top_builddir"/libholt.so.0.1.0 |
  sed -n 's/.* [A-Z] \([^@ ]*\).*/\1/p' | grep -v '^HOLT_0\.1$' | sort >shared
diff declared shared || fail "libholt.so does not export what holt.h declares"
nm -g --defined-only "$top_builddir/libholt.a" | sed -n 's/.* [A-Z] //p' | sort >static
# A sanitizer adds symbols of its own.
grep -v '^__' static >own || true
diff declared own || fail "libholt.a does not export what holt.h declares"

while read -r function; do
  page=man/$function.3
  if [ ! -f "$top_srcdir/$page" ] && [ ! -f "$top_builddir/$page" ]; then
    fail "no manual page for $function"
  fi
done <declared
