/*
 * LMDB.  Two drivers: as it is, and with a writable map (MDB_WRITEMAP), which saves the
 * system calls of a commit but lets any stray pointer of the program destroy the store.
 *
 * Level PROCESS and LOSSY: MDB_NOSYNC and MDB_NOMETASYNC; a commit lies in the host's
 * page cache.  Level SYNC: neither, an fsync a commit.  One environment has one writer at
 * a time, so threads that put wait for each other.
 *
 * A session keeps one read transaction and its cursor until it writes.
 */
#include "config.h"

#include "bench/engine/driver.h"

#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

struct engine {
	MDB_env *env;
	MDB_dbi dbi;
};

struct session {
	struct engine *engine;
	MDB_txn *reader;
	MDB_cursor *cursor;
	bool is_reading;
};

/* LMDB's own codes are negative and no errno; a benchmark meets none it could handle. */
static int check(int result, const char *what)
{
	if (result < 0 && result != MDB_NOTFOUND && result != MDB_KEYEXIST)
		bench_die("lmdb: %s: %s", what, mdb_strerror(result));
	if (result == MDB_NOTFOUND)
		return -ENOENT;
	return result == MDB_KEYEXIST ? -EEXIST : -result;
}

static int open_any(const struct bench_options *options, unsigned flags, void **ret)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	MDB_txn *txn;
	int err;

	if (!engine)
		return -ENOMEM;
	err = mdb_env_create(&engine->env);
	if (!err)
		err = mdb_env_set_mapsize(engine->env,
		    round_up(options->keys * 1024 + (1ull << 30), 1 << 20));
	if (!err)
		err = mdb_env_open(engine->env, options->dir,
		    flags | MDB_NOSYNC | MDB_NOMETASYNC | MDB_NOTLS, 0600);
	if (!err)
		err = mdb_txn_begin(engine->env, NULL, 0, &txn);
	if (!err)
		err = mdb_dbi_open(txn, NULL, 0, &engine->dbi);
	if (!err)
		err = mdb_txn_commit(txn);
	if (err)
		bench_die("lmdb: open: %s", mdb_strerror(err));
	*ret = engine;
	return 0;
}

static int open_plain(const struct bench_options *options, void **ret)
{
	/* Read-ahead of the kernel only harms where the map is larger than memory. */
	return open_any(options, options->is_direct ? MDB_NORDAHEAD : 0, ret);
}

static int open_writemap(const struct bench_options *options, void **ret)
{
	return open_any(options, MDB_WRITEMAP, ret);
}

static void close_env(void *ctx)
{
	struct engine *engine = ctx;

	mdb_env_close(engine->env);
	free(engine);
}

static int settle(void *ctx)
{
	struct engine *engine = ctx;

	return check(mdb_env_sync(engine->env, 1), "sync");
}

static int session_open(void *ctx, enum bench_level level, void **ret)
{
	struct engine *engine = ctx;
	struct session *session = calloc(1, sizeof(*session));
	int err;

	if (!session)
		return -ENOMEM;
	session->engine = engine;
	mdb_env_set_flags(engine->env, MDB_NOSYNC | MDB_NOMETASYNC, level != BENCH_SYNC);
	err = mdb_txn_begin(engine->env, NULL, MDB_RDONLY, &session->reader);
	if (!err)
		err = mdb_cursor_open(session->reader, engine->dbi, &session->cursor);
	check(err, "session");
	mdb_txn_reset(session->reader);
	*ret = session;
	return 0;
}

static void session_close(void *ctx)
{
	struct session *session = ctx;

	mdb_cursor_close(session->cursor);
	mdb_txn_abort(session->reader);
	free(session);
}

static void pause_session(void *ctx)
{
	struct session *session = ctx;

	if (session->is_reading)
		mdb_txn_reset(session->reader);
	session->is_reading = false;
}

static inline void begin_reading(struct session *session)
{
	if (session->is_reading)
		return;
	if (mdb_txn_renew(session->reader) ||
	    mdb_cursor_renew(session->reader, session->cursor))
		bench_die("lmdb: renew");
	session->is_reading = true;
}

static MDB_txn *begin_writing(struct session *session)
{
	MDB_txn *txn;

	pause_session(session);
	check(mdb_txn_begin(session->engine->env, NULL, 0, &txn), "begin");
	return txn;
}

static int load(void *ctx, const void *const *keys, const size_t *key_bytes,
    const void *const *values, const size_t *value_bytes, unsigned count)
{
	struct session *session = ctx;
	MDB_txn *txn = begin_writing(session);

	for (unsigned i = 0; i < count; i++) {
		MDB_val key = {key_bytes[i], (void *)keys[i]};
		MDB_val value = {value_bytes[i], (void *)values[i]};
		int err = mdb_put(txn, session->engine->dbi, &key, &value, 0);

		if (err)
			bench_die("lmdb: load: %s", mdb_strerror(err));
	}
	return check(mdb_txn_commit(txn), "commit");
}

static int get(void *ctx, const void *key, size_t key_bytes, struct bench_sink *sink)
{
	struct session *session = ctx;
	MDB_val k = {key_bytes, (void *)key}, v;
	int err;

	begin_reading(session);
	err = mdb_get(session->reader, session->engine->dbi, &k, &v);
	if (!err)
		sink_value(sink, v.mv_data, v.mv_size);
	return check(err, "get");
}

static int put(void *ctx, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes)
{
	struct session *session = ctx;
	MDB_txn *txn = begin_writing(session);
	MDB_val k = {key_bytes, (void *)key}, v = {value_bytes, (void *)value};

	check(mdb_put(txn, session->engine->dbi, &k, &v, 0), "put");
	return check(mdb_txn_commit(txn), "commit");
}

static int erase(void *ctx, const void *key, size_t key_bytes)
{
	struct session *session = ctx;
	MDB_txn *txn = begin_writing(session);
	MDB_val k = {key_bytes, (void *)key};
	int err = check(mdb_del(txn, session->engine->dbi, &k, NULL), "delete");

	if (err) {
		mdb_txn_abort(txn);
		return err;
	}
	return check(mdb_txn_commit(txn), "commit");
}

static int rename_key(void *ctx, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes)
{
	struct session *session = ctx;
	MDB_txn *txn = begin_writing(session);
	MDB_dbi dbi = session->engine->dbi;
	MDB_val from = {src_bytes, (void *)src}, to = {dst_bytes, (void *)dst}, v, copy;
	uint8_t bytes[BENCH_VALUE_MAX];
	int err = check(mdb_get(txn, dbi, &from, &v), "get");

	if (!err) {
		/* A put may move the page that the value lies in. */
		copy = (MDB_val){v.mv_size, memcpy(bytes, v.mv_data, v.mv_size)};
		err = check(mdb_put(txn, dbi, &to, &copy, MDB_NOOVERWRITE), "put");
	}
	if (!err)
		err = check(mdb_del(txn, dbi, &from, NULL), "delete");
	if (err) {
		mdb_txn_abort(txn);
		return err;
	}
	return check(mdb_txn_commit(txn), "commit");
}

static bool has_prefix(const MDB_val *key, const struct bench_list *list)
{
	return key->mv_size >= list->prefix_bytes &&
	       memcmp(key->mv_data, list->prefix, list->prefix_bytes) == 0;
}

static int list(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	struct session *session = ctx;
	MDB_val k = {list->prefix_bytes, (void *)list->prefix}, v;
	int err;

	begin_reading(session);
	if (list->after)
		k = (MDB_val){list->after_bytes, (void *)list->after};
	err = mdb_cursor_get(session->cursor, &k, &v, MDB_SET_RANGE);
	if (!err && list->after && k.mv_size == list->after_bytes &&
	    memcmp(k.mv_data, list->after, k.mv_size) == 0)
		err = mdb_cursor_get(session->cursor, &k, &v, MDB_NEXT);
	for (unsigned i = 0; !err && i < list->limit && has_prefix(&k, list); i++) {
		sink_key(sink, k.mv_data, k.mv_size);
		if (list->has_values)
			sink_value(sink, v.mv_data, v.mv_size);
		if (i + 1 < list->limit)
			err = mdb_cursor_get(session->cursor, &k, &v, MDB_NEXT);
	}
	err = check(err, "list");
	return err == -ENOENT ? 0 : err;
}

static int list_dir(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	struct session *session = ctx;
	MDB_val k = {list->prefix_bytes, (void *)list->prefix}, v;
	uint8_t next[BENCH_KEY_MAX];
	int err = 0;

	begin_reading(session);
	for (unsigned i = 0; i < list->limit; i++) {
		size_t bytes;

		err = mdb_cursor_get(session->cursor, &k, &v, MDB_SET_RANGE);
		if (err || !has_prefix(&k, list))
			break;
		bytes = bench_entry_bytes(k.mv_data, k.mv_size, list->prefix_bytes);
		sink_key(sink, k.mv_data, bytes);
		k = (MDB_val){bench_after_prefix(k.mv_data, bytes, next), next};
	}
	err = check(err, "list");
	return err == -ENOENT ? 0 : err;
}

static const char *setting(enum bench_level level)
{
	return level == BENCH_SYNC ? "fsync a commit; read transaction reused" :
				     "NOSYNC|NOMETASYNC; read transaction reused";
}

static const char *setting_writemap(enum bench_level level)
{
	return level == BENCH_SYNC ? "WRITEMAP, msync a commit" :
				     "WRITEMAP|NOSYNC|NOMETASYNC";
}

#define COMMON                                                                 \
	.close = close_env, .settle = settle, .session_open = session_open,    \
	.session_close = session_close, .pause = pause_session, .load = load,  \
	.get = get, .put = put, .erase = erase, .rename = rename_key,          \
	.list = list, .list_dir = list_dir

const struct bench_driver driver_lmdb = {
    .name = "lmdb", .open = open_plain, .setting = setting, COMMON};

const struct bench_driver driver_lmdb_writemap = {
    .name = "lmdb-writemap",
    .writes_only = true,
    .open = open_writemap,
    .setting = setting_writemap,
    COMMON};
