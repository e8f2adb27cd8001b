# shellcheck shell=bash
# What a test of a real mount needs, on top of lib.sh.  It sources this instead:
#
#   . "${top_srcdir:?run by make check}/tests/support/mount.sh"
#
# and gets: `volume` (a path), `mnt` (an empty directory), functions to make, mount,
# unmount, kill and check it.  Whatever happens the test ends with nothing mounted;
# if it failed the daemon's messages are printed.  A watchdog kills a daemon that
# hangs, so that a test fails and does not wait for ever.
# shellcheck source=lib.sh
. "${top_srcdir:?run by make check}/tests/support/lib.sh"

volume=$work_dir/volume
mnt=$work_dir/mnt
daemon_log=$work_dir/daemon.log
daemon_pid=
TEST_TIMEOUT=${TEST_TIMEOUT:-600}
MOUNT_PATIENCE=20 # seconds for a mount to appear, a daemon to end
mkdir "$mnt"
: >"$daemon_log"

can_use_fuse() {
  [ -c /dev/fuse ] && { is_root || command -v fusermount3 >/dev/null; }
}
need "/dev/fuse, with root or fusermount3," can_use_fuse

unmount_command() {
  if is_root; then
    umount "$@" "$mnt"
  else
    fusermount3 -u ${1:+-z} "$mnt"
  fi
}

# A dead mount does not answer stat(2), so the kernel's table is asked.
is_mounted() {
  grep -qF " $mnt " /proc/self/mountinfo
}

# wait_for SECONDS COMMAND...: until it succeeds; fails after that time.
wait_for() {
  local end=$((SECONDS + $1))
  shift

  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.02
  done
}

daemon_is_gone() {
  ! kill -0 "$daemon_pid" 2>/dev/null
}

mounted_or_gone() {
  is_mounted || daemon_is_gone
}

# Waits for the daemon; its exit code is in daemon_exit.
reap_daemon() {
  daemon_exit=0
  wait_for "$MOUNT_PATIENCE" daemon_is_gone || {
    kill -9 "$daemon_pid"
    fail "the daemon did not end within $MOUNT_PATIENCE seconds"
  }
  wait "$daemon_pid" || daemon_exit=$?
  daemon_pid=
}

clean_up_mount() {
  if [ -n "$daemon_pid" ]; then
    kill -9 "$daemon_pid" 2>/dev/null
  fi
  while is_mounted; do
    unmount_command -l || break
  done
  if [ "${TEST_STATUS:-0}" != 0 ] && [ "${TEST_STATUS:-0}" != 77 ]; then
    sed 's/^/  daemon: /' "$daemon_log"
  fi
}
at_end clean_up_mount

# make_volume SIZE [MKFS-OPTION...]
make_volume() {
  local size=$1
  shift

  mkfs.holtfs -q -s "$size" "$@" "$volume"
}

# Kills the daemon when the test takes too long: every call into the mount then
# fails, and so does the test.
start_watchdog() {
  local victim=$daemon_pid

  (
    trap - EXIT
    exec >/dev/null 2>&1 </dev/null
    # Kept as short naps: whoever kills this shell leaves no sleep behind for long.
    for ((i = 0; i < TEST_TIMEOUT; i++)); do
      sleep 1
      kill -0 "$victim" || exit 0
    done
    echo "watchdog: $TEST_TIMEOUT seconds are over" >>"$daemon_log"
    kill -9 "$victim"
  ) &
  disown
}

# mount_volume [HOLTFS-OPTION...]: the daemon runs in the foreground of a job.
mount_volume() {
  # A background job would inherit an ignored SIGINT.
  env --default-signal=INT,HUP,TERM holtfs "$volume" "$mnt" -f "$@" >>"$daemon_log" 2>&1 </dev/null &
  daemon_pid=$!
  wait_for "$MOUNT_PATIENCE" mounted_or_gone || fail "no mount within $MOUNT_PATIENCE seconds"
  if ! is_mounted; then
    daemon_exit=0
    wait "$daemon_pid" || daemon_exit=$?
    daemon_pid=
    fail "the daemon ended with $daemon_exit instead of mounting"
  fi
  start_watchdog
  stat "$mnt" >/dev/null
}

# Ends with the daemon gone and the volume closed cleanly.
unmount_volume() {
  unmount_command
  reap_daemon
  expect_equal "$daemon_exit" 0 "exit code of the daemon after an unmount"
}

# As a crash of the machine looks to the volume, except that the host lives on.
kill_daemon() {
  kill -9 "$daemon_pid"
  reap_daemon
  unmount_command -l
}

remount_volume() {
  unmount_volume
  mount_volume "$@"
}

# The volume, not mounted, has nothing wrong in it.
expect_clean() {
  fsck.holtfs -n "$@" "$volume" || fail "fsck.holtfs -n $* found something wrong"
}

# Everything about a tree that a copy keeps: a line a name.
list_tree() {
  (cd "$1" && find . \( -type d -printf '%p %y %m %U %G %T@\n' \) -o \
    -printf '%p %y %m %U %G %s %T@ %l\n' | sort)
}

# Content and attributes.
expect_same_tree() {
  diff -r --no-dereference "$1" "$2" >differences || {
    head -20 differences
    fail "$2 differs from $1"
  }
  list_tree "$1" >tree-one
  list_tree "$2" >tree-two
  diff tree-one tree-two >differences || {
    head -20 differences
    fail "attributes of $2 differ from those of $1"
  }
}

# Makes all files and names below a directory durable, as a careful program does.
sync_tree() {
  find "$1" -type f -print0 | xargs -0 -r -n 500 sync
  sync "$mnt"
}

# A source tree of some hundred files, there wherever C is compiled.
small_tree=/usr/include/linux
