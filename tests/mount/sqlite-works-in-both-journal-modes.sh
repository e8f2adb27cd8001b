#!/bin/bash
# sqlite3 with a rollback journal and with a write-ahead log (shared memory in the
# mount), through a kill of the daemon: committed rows are there, the integrity check
# says ok.
# shellcheck source=../support/mount.sh
. "${top_srcdir:?run by make check}/tests/support/mount.sh"

need_command sqlite3
make_volume 512M
mount_volume

for mode in delete wal; do
  database=$mnt/$mode.db
  expect_equal "$(sqlite3 "$database" "PRAGMA journal_mode=$mode;")" "$mode" "journal mode"
  sqlite3 "$database" "CREATE TABLE numbers(n INTEGER PRIMARY KEY, text TEXT);"
  for i in {0..9}; do
    sqlite3 "$database" "PRAGMA synchronous=FULL; BEGIN;
      WITH RECURSIVE c(x) AS (SELECT $((i * 1000 + 1)) UNION ALL SELECT x + 1 FROM c
        WHERE x < $((i * 1000 + 1000)))
      INSERT INTO numbers SELECT x, 'number ' || x FROM c; COMMIT;"
  done
  sqlite3 "$database" "BEGIN; DELETE FROM numbers WHERE n % 2; ROLLBACK;"
done

check_databases() {
  local mode

  for mode in delete wal; do
    expect_equal "$(sqlite3 "$mnt/$mode.db" 'PRAGMA integrity_check;')" ok "integrity of $mode.db"
    expect_equal "$(sqlite3 "$mnt/$mode.db" 'SELECT count(*), sum(n) FROM numbers;')" \
      "10000|50005000" "rows of $mode.db"
  done
}
check_databases
kill_daemon
expect_clean
mount_volume
check_databases
remount_volume
check_databases
unmount_volume
expect_clean
