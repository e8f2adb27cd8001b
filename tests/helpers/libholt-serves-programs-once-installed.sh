#!/bin/bash
# Installed below a staging directory, header, libraries and pkg-config file are enough
# to build and run programs in C and C++, shared and static.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

need_command pkg-config make

make -s -C "$top_builddir" DESTDIR="$PWD/stage" \
  install-includeHEADERS install-holtlibDATA install-nodist_pkgconfigDATA \
  install-exec-hook >/dev/null
pc_file=$(find stage -name holt.pc)
[ -n "$pc_file" ] || fail "no holt.pc installed"
export PKG_CONFIG_SYSROOT_DIR="$PWD/stage"
PKG_CONFIG_PATH=$(dirname "$PWD/$pc_file")
export PKG_CONFIG_PATH
library_dir=$(dirname "$(dirname "$PWD/$pc_file")")

cat >program.c <<'END'
#include <holt.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	struct holt_options options = HOLT_OPTIONS_INIT;
	struct holt *holt;
	char value[8];
	size_t bytes;

	options.flags = HOLT_CREATE | HOLT_NO_THREADS;
	options.volume_bytes = 64u << 20;
	if (holt_open("store.holt", &options, &holt) || holt_put(holt, "k", 1, "value", 5) ||
	    holt_get(holt, "k", 1, value, sizeof(value), &bytes, NULL) || bytes != 5 ||
	    memcmp(value, "value", 5) != 0 || holt_close(holt))
		return 1;
	puts(holt_version());
	return 0;
}
END
cp program.c program.cc

read -ra compiler <<<"${CC:-gcc} ${SANITIZER_FLAGS:-}"
read -ra compile <<<"$(pkg-config --cflags holt)"
read -ra link <<<"$(pkg-config --libs holt)"
version=$(pkg-config --modversion holt)

# expect_program COMMAND...: it makes a store, twice the same one.
expect_program() {
  rm -f store.holt
  expect_exit 0 "$@"
  expect_exit 0 "$@"
  expect_equal "$(cat output)" "$version" "the version"
}

note "C"
"${compiler[@]}" -Wall -Wextra -Wpedantic -Werror -std=c99 "${compile[@]}" -o program program.c "${link[@]}"
expect_program env LD_LIBRARY_PATH="$library_dir" ./program

note "C, static"
PKG_CONFIG_SYSROOT_DIR='' pkg-config --libs --static liburing libxxhash >private-libraries
read -ra private <private-libraries
"${compiler[@]}" "${compile[@]}" -o program-static program.c "$library_dir/libholt.a" "${private[@]}" -pthread
expect_program ./program-static

if command -v g++ >/dev/null; then
  note "C++"
  read -ra sanitizers <<<"${SANITIZER_FLAGS:-}"
  g++ "${sanitizers[@]}" -Wall -Wextra -Werror -std=c++17 "${compile[@]}" -o program-cc program.cc "${link[@]}"
  expect_program env LD_LIBRARY_PATH="$library_dir" ./program-cc
fi
