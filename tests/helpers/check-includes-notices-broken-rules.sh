#!/bin/bash
# The checker of the house rules must see every kind of violation.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

mkdir -p core/tree core/pool core/nowhere fuse mount-helpers tests
export CHECK_FLAGS="-I$top_builddir -Icore -I."
check_includes="$top_srcdir/build-aux/check-includes"

# breaks TEXT FILE LINE...: a tree with this file is refused with this text
breaks() {
  local text=$1 file=$2
  shift 2

  printf '%s\n' "$@" >"$file"
  expect_exit 1 "$check_includes" .
  expect_output "$text"
  rm "$file"
}

keeps() {
  local file=$1
  shift

  printf '%s\n' "$@" >"$file"
  expect_exit 0 "$check_includes" .
}

keeps core/pool/pool.h 'struct pool;'
keeps core/tree/tree.c '#include "config.h"' '#include "pool/pool.h"' \
  '/* printf("in a comment"); exit(1) */' 'int tree_exit(void);'
breaks 'of floor 4, but pool is on floor 3' core/pool/pool.c \
  '#include "config.h"' '#include "tree/tree.h"'
breaks 'private to pool' core/tree/x.c '#include "config.h"' '#include "pool/list.h"'
breaks 'which is not in core/' core/tree/x.c '#include "config.h"' '#include "fuse/reply.h"'
breaks 'core/nowhere has no floor' core/nowhere/x.h 'struct x;'
breaks 'does not print, exit' core/tree/x.c '#include "config.h"' 'void f(void) { printf("x"); }'
breaks 'does not print, exit' core/tree/x.c '#include "config.h"' 'void f(void) { exit (1); }'
breaks 'does not print, exit' core/tree/x.c '#include "config.h"' 'char *f(void) { return getenv("x"); }'
breaks 'only core/device/device_uring.c' core/tree/x.c '#include "config.h"' '#include <liburing.h>'
breaks 'only fuse/ includes libfuse' mount-helpers/x.c '#include "config.h"' '#include <fuse_lowlevel.h>'
breaks 'may include only' fuse/x.c '#include "config.h"' '#include "pool/pool.h"'
breaks 'may include only' mount-helpers/x.c '#include "config.h"' '#include "fuse/reply.h"'
breaks 'the first include is not' core/tree/x.c '#include "pool/pool.h"' '#include "config.h"'
breaks 'does not compile alone' core/tree/tree.h 'unknown_type x;'

note "ranks that the page does not know"
mkdir core/base docs
printf 'enum lock_rank {\n\tRANK_A = 1,\n\tRANK_B,\n};\n' >core/base/lock.h
# The backquotes are Markdown.
# shellcheck disable=SC2016
rank_a='| `RANK_A` | x |' rank_b='| `RANK_B` | y |'
keeps docs/locking.md "$rank_a" "$rank_b"
breaks 'not the ranks of core/base/lock.h' docs/locking.md "$rank_b" "$rank_a"
