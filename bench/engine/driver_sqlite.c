/*
 * SQLite: one table WITHOUT ROWID, its key a BLOB, every statement prepared once a
 * session.
 *
 * Level PROCESS: write-ahead log, synchronous=OFF; LOSSY has nothing weaker that keeps
 * a file.  SYNC: write-ahead log, synchronous=FULL.  A session is a connection; SQLite
 * has one writer at a time and no queue for the others, so writers queue at a mutex, as
 * an application would have them.
 *
 * A session keeps a read transaction until it writes.
 */
#include "config.h"

#include "bench/engine/driver.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum statement {
	BEGIN,
	COMMIT,
	GET,
	PUT,
	ERASE,
	RENAME,
	LIST,
	LIST_AFTER,
	LIST_VALUES,
	LIST_VALUES_AFTER,
	SEEK,
	STATEMENT_COUNT,
};

static const char *const texts[STATEMENT_COUNT] = {
    [BEGIN] = "BEGIN",
    [COMMIT] = "COMMIT",
    [GET] = "SELECT v FROM kv WHERE k=?",
    [PUT] = "INSERT INTO kv(k,v) VALUES(?,?) ON CONFLICT(k) DO UPDATE SET v=excluded.v",
    [ERASE] = "DELETE FROM kv WHERE k=?",
    [RENAME] = "UPDATE kv SET k=? WHERE k=?",
    [LIST] = "SELECT k FROM kv WHERE k>=? AND k<? ORDER BY k LIMIT ?",
    [LIST_AFTER] = "SELECT k FROM kv WHERE k>? AND k<? ORDER BY k LIMIT ?",
    [LIST_VALUES] = "SELECT k,v FROM kv WHERE k>=? AND k<? ORDER BY k LIMIT ?",
    [LIST_VALUES_AFTER] = "SELECT k,v FROM kv WHERE k>? AND k<? ORDER BY k LIMIT ?",
    [SEEK] = "SELECT k FROM kv WHERE k>=? AND k<? ORDER BY k LIMIT 1",
};

struct engine {
	char path[4096];
	uint64_t cache_bytes;
	pthread_mutex_t writer;
};

struct session {
	struct engine *engine;
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENT_COUNT];
	bool is_reading;
};

static void check(struct session *session, int result, const char *what)
{
	if (result != SQLITE_OK && result != SQLITE_ROW && result != SQLITE_DONE)
		bench_die("sqlite: %s: %s", what,
		    session->db ? sqlite3_errmsg(session->db) : sqlite3_errstr(result));
}

static void run(struct session *session, const char *sql)
{
	check(session, sqlite3_exec(session->db, sql, NULL, NULL, NULL), sql);
}

static int session_open(void *ctx, enum bench_level level, void **ret)
{
	struct engine *engine = ctx;
	struct session *session = calloc(1, sizeof(*session));
	char text[128];

	if (!session)
		return -ENOMEM;
	session->engine = engine;
	check(session,
	    sqlite3_open_v2(engine->path, &session->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL),
	    "open");
	sqlite3_busy_timeout(session->db, 10000);
	run(session, "PRAGMA journal_mode=WAL");
	run(session, level == BENCH_SYNC ? "PRAGMA synchronous=FULL" :
					   "PRAGMA synchronous=OFF");
	snprintf(text, sizeof(text), "PRAGMA cache_size=-%llu",
	    (unsigned long long)(engine->cache_bytes >> 10));
	run(session, text);
	run(session, "CREATE TABLE IF NOT EXISTS kv(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID");
	for (unsigned i = 0; i < STATEMENT_COUNT; i++)
		check(session,
		    sqlite3_prepare_v3(session->db, texts[i], -1,
			SQLITE_PREPARE_PERSISTENT, &session->statements[i], NULL),
		    texts[i]);
	*ret = session;
	return 0;
}

static int step(struct session *session, enum statement which)
{
	int result = sqlite3_step(session->statements[which]);

	if (result != SQLITE_CONSTRAINT)
		check(session, result, texts[which]);
	return result;
}

static void step_once(struct session *session, enum statement which)
{
	step(session, which);
	sqlite3_reset(session->statements[which]);
}

static void pause_session(void *ctx)
{
	struct session *session = ctx;

	if (session->is_reading)
		step_once(session, COMMIT);
	session->is_reading = false;
}

static void begin_reading(struct session *session)
{
	if (!session->is_reading)
		step_once(session, BEGIN);
	session->is_reading = true;
}

static void session_close(void *ctx)
{
	struct session *session = ctx;

	pause_session(session);
	for (unsigned i = 0; i < STATEMENT_COUNT; i++)
		sqlite3_finalize(session->statements[i]);
	check(session, sqlite3_close(session->db), "close");
	free(session);
}

static int open_db(const struct bench_options *options, void **ret)
{
	struct engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return -ENOMEM;
	snprintf(engine->path, sizeof(engine->path), "%s/db", options->dir);
	engine->cache_bytes = options->cache_bytes;
	pthread_mutex_init(&engine->writer, NULL);
	*ret = engine;
	return 0;
}

static void close_db(void *ctx)
{
	struct engine *engine = ctx;

	pthread_mutex_destroy(&engine->writer);
	free(engine);
}

static int settle(void *ctx)
{
	void *session;
	int err = session_open(ctx, BENCH_PROCESS, &session);

	if (err)
		return err;
	run(session, "PRAGMA wal_checkpoint(TRUNCATE)");
	session_close(session);
	return 0;
}

static void bind(struct session *session, enum statement which, int place,
    const void *bytes, size_t count)
{
	check(session,
	    sqlite3_bind_blob(session->statements[which], place, bytes, (int)count, SQLITE_STATIC),
	    "bind");
}

/* One statement is one transaction. */
static int write_once(struct session *session, enum statement which)
{
	int result;

	pause_session(session);
	pthread_mutex_lock(&session->engine->writer);
	result = step(session, which);
	sqlite3_reset(session->statements[which]);
	pthread_mutex_unlock(&session->engine->writer);
	if (result == SQLITE_CONSTRAINT)
		return -EEXIST;
	return sqlite3_changes(session->db) == 0 ? -ENOENT : 0;
}

static int load(void *ctx, const void *const *keys, const size_t *key_bytes,
    const void *const *values, const size_t *value_bytes, unsigned count)
{
	struct session *session = ctx;

	pause_session(session);
	step_once(session, BEGIN);
	for (unsigned i = 0; i < count; i++) {
		bind(session, PUT, 1, keys[i], key_bytes[i]);
		bind(session, PUT, 2, values[i], value_bytes[i]);
		step_once(session, PUT);
	}
	step_once(session, COMMIT);
	return 0;
}

static int get(void *ctx, const void *key, size_t key_bytes, struct bench_sink *sink)
{
	struct session *session = ctx;
	sqlite3_stmt *statement = session->statements[GET];
	int result;

	begin_reading(session);
	bind(session, GET, 1, key, key_bytes);
	result = step(session, GET);
	if (result == SQLITE_ROW)
		sink_value(sink, sqlite3_column_blob(statement, 0),
		    (size_t)sqlite3_column_bytes(statement, 0));
	sqlite3_reset(statement);
	return result == SQLITE_ROW ? 0 : -ENOENT;
}

static int put(void *ctx, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes)
{
	bind(ctx, PUT, 1, key, key_bytes);
	bind(ctx, PUT, 2, value, value_bytes);
	return write_once(ctx, PUT);
}

static int erase(void *ctx, const void *key, size_t key_bytes)
{
	bind(ctx, ERASE, 1, key, key_bytes);
	return write_once(ctx, ERASE);
}

static int rename_key(void *ctx, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes)
{
	bind(ctx, RENAME, 1, dst, dst_bytes);
	bind(ctx, RENAME, 2, src, src_bytes);
	return write_once(ctx, RENAME);
}

static int list(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	struct session *session = ctx;
	enum statement which = list->has_values ? LIST_VALUES : LIST;
	sqlite3_stmt *statement;
	uint8_t end[BENCH_KEY_MAX];

	begin_reading(session);
	if (list->after)
		which++;
	statement = session->statements[which];
	if (list->after)
		bind(session, which, 1, list->after, list->after_bytes);
	else
		bind(session, which, 1, list->prefix, list->prefix_bytes);
	bind(session, which, 2, end, bench_after_prefix(list->prefix, list->prefix_bytes, end));
	sqlite3_bind_int(statement, 3, (int)list->limit);
	while (step(session, which) == SQLITE_ROW) {
		sink_key(sink, sqlite3_column_blob(statement, 0),
		    (size_t)sqlite3_column_bytes(statement, 0));
		if (list->has_values)
			sink_value(sink, sqlite3_column_blob(statement, 1),
			    (size_t)sqlite3_column_bytes(statement, 1));
	}
	sqlite3_reset(statement);
	return 0;
}

static int list_dir(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	struct session *session = ctx;
	sqlite3_stmt *statement = session->statements[SEEK];
	uint8_t next[BENCH_KEY_MAX], end[BENCH_KEY_MAX];
	size_t next_bytes = list->prefix_bytes;

	begin_reading(session);
	memcpy(next, list->prefix, next_bytes);
	bind(session, SEEK, 2, end, bench_after_prefix(list->prefix, list->prefix_bytes, end));
	for (unsigned i = 0; i < list->limit; i++) {
		const void *key;
		size_t bytes;

		bind(session, SEEK, 1, next, next_bytes);
		if (step(session, SEEK) != SQLITE_ROW) {
			sqlite3_reset(statement);
			break;
		}
		key = sqlite3_column_blob(statement, 0);
		bytes = bench_entry_bytes(key, (size_t)sqlite3_column_bytes(statement, 0),
		    list->prefix_bytes);
		sink_key(sink, key, bytes);
		next_bytes = bench_after_prefix(key, bytes, next);
		sqlite3_reset(statement);
	}
	return 0;
}

static const char *setting(enum bench_level level)
{
	return level == BENCH_SYNC ?
		   "WAL, synchronous=FULL, WITHOUT ROWID, prepared" :
		   "WAL, synchronous=OFF, WITHOUT ROWID, prepared, read transaction reused";
}

const struct bench_driver driver_sqlite = {
    .name = "sqlite",
    .open = open_db,
    .close = close_db,
    .settle = settle,
    .session_open = session_open,
    .session_close = session_close,
    .pause = pause_session,
    .load = load,
    .get = get,
    .put = put,
    .erase = erase,
    .rename = rename_key,
    .list = list,
    .list_dir = list_dir,
    .setting = setting,
};
