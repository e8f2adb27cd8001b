#!/bin/bash
# The product's own source tree is cloned into a mount, configured, built, and unit
# tests run there; TEST_LONG runs all of them.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

need_command git make gcc autoreconf
export HOME=$work_dir GIT_CONFIG_NOSYSTEM=1
make_volume 4G
mount_volume

if [ -e "$top_srcdir/.git" ]; then
  git config --global safe.directory '*'
  git clone -q --no-hardlinks "$top_srcdir" "$mnt/source"
else
  cp -a "$top_srcdir" "$mnt/source"
  chmod -R u+w "$mnt/source"
fi
cd "$mnt/source"
[ -x configure ] || autoreconf -i
mkdir "$mnt/build"
cd "$mnt/build"
../source/configure -q --enable-debug
make -s core/libcore.a
tests="tests/unit/test_base tests/unit/test_pool tests/unit/test_fs"
if [ -n "${TEST_LONG:-}" ]; then
  tests=$(sed -n 's/^TESTS += \(tests\/unit\/.*\)/\1/p' "$mnt"/source/*/Makemodule.am \
    "$mnt"/source/*/*/Makemodule.am | tr '\n' ' ')
fi
# The volumes that those tests make lie in the mount as well.
mkdir "$mnt/tmp"
export TMPDIR=$mnt/tmp
make -s check TESTS="$tests" || {
  cat test-suite.log
  fail "unit tests fail in the mount"
}
cd "$work_dir"
unmount_volume
expect_clean
