#!/bin/bash
# What mount(8) adds for itself is dropped, everything else reaches the daemon, in
# order; a stand-in for the daemon shows what arrives.
# shellcheck source=../support/lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

mkdir stand-in
cat >stand-in/holtfs <<'END'
#!/bin/sh
printf '<%s>' holtfs "$@"
exit 42
END
cat >stand-in/mount <<'END'
#!/bin/sh
printf '<%s>' mount "$@"
exit 43
END
chmod +x stand-in/*
PATH=$PWD/stand-in:$PATH

expect_exit 42 mount.holtfs volume directory
expect_equal "$(cat output)" "<holtfs><volume><directory>" "command"
expect_exit 42 mount.holtfs volume directory -o rw,commit=5,cache=64M
expect_equal "$(cat output)" "<holtfs><volume><directory><-o><rw,commit=5,cache=64M>" "command"

note "words of mount(8), fstab(5) and systemd go no further"
expect_exit 42 mount.holtfs volume directory -n -s -t holtfs \
  -o defaults,noauto,nofail,_netdev,user,x-systemd.automount,X-a=b,comment=hello,ro
expect_equal "$(cat output)" "<holtfs><volume><directory><-o><ro>" "command"
expect_exit 42 mount.holtfs volume directory -o strictatime,lazytime,silent
expect_equal "$(cat output)" "<holtfs><volume><directory>" "command"
expect_exit 42 mount.holtfs volume directory -o noatime -o ,,allow_other, -o users
expect_equal "$(cat output)" "<holtfs><volume><directory><-o><noatime,allow_other>" "command"
expect_exit 42 mount.holtfs "a volume" "a directory" -o "ro,fsname=a b"
expect_equal "$(cat output)" "<holtfs><a volume><a directory><-o><ro,fsname=a b>" "command"

note "-f runs nothing, -v says what would run"
expect_exit 0 mount.holtfs -f -v volume directory -o ro
expect_equal "$(cat errors)" "holtfs volume directory -o ro" "what -v prints"
[ ! -s output ] || fail "-f ran the daemon"

note "a remount is the kernel's affair"
expect_exit 43 mount.holtfs volume directory -o remount,ro,noauto
expect_equal "$(cat output)" "<mount><-i><-o><remount,ro><directory>" "command"
