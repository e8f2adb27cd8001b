# shellcheck shell=bash
# What every shell test needs.  A test sources this first:
#
#   . "${top_srcdir:?run by make check}/tests/support/lib.sh"
#
# and gets: an empty work directory as the current one, removed at the end; the
# programs of the build tree first in PATH; a trap that runs every command given to
# at_end; functions that state facts and end the test when they do not hold.
# Exit codes are automake's: 0 passed, 77 skipped with a reason, else failed.
set -euo pipefail

: "${top_srcdir:?run by make check}" "${top_builddir:?run by make check}"
export LC_ALL=C
# A make that a test runs is not part of the make that runs the test.
unset MAKEFLAGS MFLAGS MAKELEVEL
# A shell's own PATH entries may be missing in cron and containers: sbin is needed.
export PATH="$top_builddir:$PATH:/usr/sbin:/sbin"

test_name=$(basename "$0" .sh)
work_dir=$(mktemp -d "${TMPDIR:-/tmp}/holtfs-$test_name.XXXXXX")
end_commands=()

# at_end COMMAND...: run when the test ends, last given first.
at_end() {
  end_commands=("$(printf '%q ' "$@")" "${end_commands[@]}")
}

run_end_commands() {
  local status=$? command

  trap - EXIT
  set +e
  for command in "${end_commands[@]}"; do
    TEST_STATUS=$status eval "$command"
  done
  cd /
  rm -rf --one-file-system "$work_dir"
  exit "$status"
}
trap run_end_commands EXIT
trap 'exit 130' INT TERM HUP
cd "$work_dir"

note() {
  printf '# %s\n' "$*"
}

fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}

# need WHAT COMMAND...: skips without it; in CI nothing may be missing.
need() {
  local what=$1
  shift

  if "$@" >/dev/null 2>&1; then
    return
  fi
  if [ "${CI:-}" = true ]; then
    fail "$what is missing, and CI=true lets nothing be skipped"
  fi
  skip "$what is missing"
}

need_command() {
  local name

  for name in "$@"; do
    need "the command $name" command -v "$name"
  done
}

is_root() {
  [ "$(id -u)" = 0 ]
}

# expect_exit CODE COMMAND...: runs it; output and errors are kept in the files
# `output` and `errors`.
expect_exit() {
  local wanted=$1 got=0
  shift

  "$@" >output 2>errors </dev/null || got=$?
  if [ "$got" != "$wanted" ]; then
    sed 's/^/  stdout: /' output
    sed 's/^/  stderr: /' errors
    fail "exit code $got instead of $wanted: $*"
  fi
}

# expect_error TEXT: the last command said so on standard error.
expect_error() {
  grep -qF -- "$1" errors || {
    sed 's/^/  stderr: /' errors
    fail "standard error does not say '$1'"
  }
}

expect_output() {
  grep -qF -- "$1" output || {
    sed 's/^/  stdout: /' output
    fail "standard output does not say '$1'"
  }
}

expect_silence() {
  [ ! -s output ] || fail "printed: $(cat output)"
  [ ! -s errors ] || fail "complained: $(cat errors)"
}

# One line, beginning with the program's name.
expect_one_line_error() {
  local lines

  lines=$(wc -l <errors)
  [ "$lines" = 1 ] || fail "$lines lines of errors instead of 1: $(cat errors)"
  [[ "$(cat errors)" == "$1: "* ]] || fail "the message does not begin with '$1: ': $(cat errors)"
}

expect_equal() {
  [ "$1" = "$2" ] || fail "${3:-value} is '$1' instead of '$2'"
}

# Standard help and version, which every tool has.
expect_help_and_version() {
  local program=$1 version

  expect_exit 0 "$program" --help
  expect_output "usage: $program "
  [ ! -s errors ] || fail "--help complained"
  expect_exit 0 "$program" --version
  version=$(sed -n 's/^#define PACKAGE_VERSION "\(.*\)"/\1/p' "$top_builddir/config.h")
  expect_output "$program $version"
}
