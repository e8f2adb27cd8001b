# shellcheck shell=bash
# What ./run and ./check share: the packages and the build.  Sourced by bash.
#
# Everything a fresh Debian or Ubuntu machine lacks is installed in one go; on a
# machine that has it all the package manager is not touched.

SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() {
  printf '\n== %s\n' "$*"
}

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root to run: $*"
  fi
}

# Prints the Debian packages whose command or pkg-config file is not there.
missing_packages() {
  local pair

  for pair in "$@"; do
    case $pair in
    pc:*)
      pair=${pair#pc:}
      pkg-config --exists "${pair%%=*}" 2>/dev/null || printf '%s\n' "${pair#*=}"
      ;;
    *)
      command -v "${pair%%=*}" >/dev/null || printf '%s\n' "${pair#*=}"
      ;;
    esac
  done
}

# shellcheck disable=SC2034 # for the scripts that source this
build_needs=(
  gcc=gcc make=make autoreconf=autoconf automake=automake pkg-config=pkg-config
  git=git ld=binutils objcopy=binutils cp=coreutils find=findutils
  pc:fuse3=libfuse3-dev pc:liburing=liburing-dev pc:libxxhash=libxxhash-dev
  pc:liburcu-memb=liburcu-dev pc:liburcu-cds=liburcu-dev pc:blkid=libblkid-dev
  pc:uuid=uuid-dev pc:mount=libmount-dev pc:jansson=libjansson-dev pc:check=check
  fusermount3=fuse3 mountpoint=util-linux diff=diffutils
)

# What make bench-engine compares with.
# shellcheck disable=SC2034
bench_needs=(pc:lmdb=liblmdb-dev pc:rocksdb=librocksdb-dev pc:sqlite3=libsqlite3-dev)

# install_packages COMMAND=PACKAGE...: what is missing, with apt.
install_packages() {
  local missing

  mapfile -t missing < <(missing_packages "$@" | sort -u)
  if [ ! -f /usr/include/stdio.h ]; then
    missing+=(libc6-dev linux-libc-dev)
  fi
  if [ "${#missing[@]}" = 0 ]; then
    return
  fi
  command -v apt-get >/dev/null ||
    die "missing, and no apt-get to install them with: ${missing[*]}"
  say "installing ${missing[*]}"
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# The daemon needs /dev/fuse; on a machine that only lacks the module, load it.
ensure_fuse() {
  if [ ! -e /dev/fuse ] && [ "$(id -u)" = 0 ]; then
    modprobe fuse 2>/dev/null || true
  fi
  [ -e /dev/fuse ] || die "/dev/fuse is missing: load the module (modprobe fuse), \
or start the container with --device /dev/fuse --cap-add SYS_ADMIN"
}

# build DIRECTORY CONFIGURE-ARGUMENT...: configures once, builds.
build() {
  local build_dir=$1
  shift

  if [ ! -x "$SOURCE_DIR/configure" ] ||
    [ "$SOURCE_DIR/configure.ac" -nt "$SOURCE_DIR/configure" ]; then
    say "making configure"
    (cd "$SOURCE_DIR" && autoreconf -i)
  fi
  mkdir -p "$build_dir"
  if [ ! -f "$build_dir/Makefile" ] ||
    [ "$SOURCE_DIR/configure" -nt "$build_dir/config.status" ]; then
    say "configuring in $build_dir"
    (cd "$build_dir" && "$SOURCE_DIR/configure" -q "$@")
  fi
  say "building in $build_dir"
  make -C "$build_dir" -s -j "$(nproc)"
}
