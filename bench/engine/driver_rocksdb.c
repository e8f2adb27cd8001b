/*
 * RocksDB, by its C interface.
 *
 * Two memtables of 64 MiB, no compression, no bloom filter, a block cache of the common
 * size, a bytewise comparator.  Level LOSSY: no write-ahead log.  PROCESS: log written,
 * not synced (it lies in the host's page cache).  SYNC: synced; writers that wait at the
 * same time share a sync.
 *
 * A session keeps its iterator until it writes: a new one costs more than a seek.
 */
#include "config.h"

#include "bench/engine/driver.h"

#include <errno.h>
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>

#define MEMTABLE_BYTES (64u << 20)

struct engine {
	rocksdb_t *db;
	rocksdb_options_t *options;
	rocksdb_block_based_table_options_t *table;
	rocksdb_cache_t *cache;
};

struct session {
	struct engine *engine;
	rocksdb_readoptions_t *reading;
	rocksdb_writeoptions_t *writing;
	rocksdb_writebatch_t *batch;
	rocksdb_iterator_t *iterator;
};

static void check(char *error, const char *what)
{
	if (error)
		bench_die("rocksdb: %s: %s", what, error);
}

static int open_db(const struct bench_options *options, void **ret)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	char *error = NULL;

	if (!engine)
		return -ENOMEM;
	engine->cache = rocksdb_cache_create_lru(options->cache_bytes);
	engine->table = rocksdb_block_based_options_create();
	rocksdb_block_based_options_set_block_cache(engine->table, engine->cache);
	engine->options = rocksdb_options_create();
	rocksdb_options_set_create_if_missing(engine->options, 1);
	rocksdb_options_set_block_based_table_factory(engine->options, engine->table);
	rocksdb_options_set_compression(engine->options, rocksdb_no_compression);
	rocksdb_options_set_write_buffer_size(engine->options, MEMTABLE_BYTES);
	rocksdb_options_set_max_write_buffer_number(engine->options, 2);
	rocksdb_options_set_use_direct_reads(engine->options, options->is_direct);
	rocksdb_options_set_use_direct_io_for_flush_and_compaction(engine->options,
	    options->is_direct);
	engine->db = rocksdb_open(engine->options, options->dir, &error);
	check(error, "open");
	*ret = engine;
	return 0;
}

static void close_db(void *ctx)
{
	struct engine *engine = ctx;

	rocksdb_close(engine->db);
	rocksdb_options_destroy(engine->options);
	rocksdb_block_based_options_destroy(engine->table);
	rocksdb_cache_destroy(engine->cache);
	free(engine);
}

/* Memtables written, levels merged into one. */
static int settle(void *ctx)
{
	struct engine *engine = ctx;
	rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
	char *error = NULL;

	rocksdb_flushoptions_set_wait(flush, 1);
	rocksdb_flush(engine->db, flush, &error);
	rocksdb_flushoptions_destroy(flush);
	check(error, "flush");
	rocksdb_compact_range(engine->db, NULL, 0, NULL, 0);
	return 0;
}

static int session_open(void *ctx, enum bench_level level, void **ret)
{
	struct session *session = calloc(1, sizeof(*session));

	if (!session)
		return -ENOMEM;
	session->engine = ctx;
	session->reading = rocksdb_readoptions_create();
	session->writing = rocksdb_writeoptions_create();
	session->batch = rocksdb_writebatch_create();
	rocksdb_writeoptions_disable_WAL(session->writing, level == BENCH_LOSSY);
	rocksdb_writeoptions_set_sync(session->writing, level == BENCH_SYNC);
	*ret = session;
	return 0;
}

static void pause_session(void *ctx)
{
	struct session *session = ctx;

	if (session->iterator)
		rocksdb_iter_destroy(session->iterator);
	session->iterator = NULL;
}

static void session_close(void *ctx)
{
	struct session *session = ctx;

	pause_session(session);
	rocksdb_writebatch_destroy(session->batch);
	rocksdb_writeoptions_destroy(session->writing);
	rocksdb_readoptions_destroy(session->reading);
	free(session);
}

static int write_batch(struct session *session)
{
	char *error = NULL;

	pause_session(session);
	rocksdb_write(session->engine->db, session->writing, session->batch, &error);
	check(error, "write");
	return 0;
}

static int load(void *ctx, const void *const *keys, const size_t *key_bytes,
    const void *const *values, const size_t *value_bytes, unsigned count)
{
	struct session *session = ctx;

	rocksdb_writebatch_clear(session->batch);
	for (unsigned i = 0; i < count; i++)
		rocksdb_writebatch_put(session->batch, keys[i], key_bytes[i],
		    values[i], value_bytes[i]);
	return write_batch(session);
}

static rocksdb_pinnableslice_t *look_up(struct session *session, const void *key,
    size_t key_bytes)
{
	char *error = NULL;
	rocksdb_pinnableslice_t *slice = rocksdb_get_pinned(session->engine->db,
	    session->reading, key, key_bytes, &error);

	check(error, "get");
	return slice;
}

static int get(void *ctx, const void *key, size_t key_bytes, struct bench_sink *sink)
{
	rocksdb_pinnableslice_t *slice = look_up(ctx, key, key_bytes);
	const char *value;
	size_t bytes;

	if (!slice)
		return -ENOENT;
	value = rocksdb_pinnableslice_value(slice, &bytes);
	sink_value(sink, value, bytes);
	rocksdb_pinnableslice_destroy(slice);
	return 0;
}

static int put(void *ctx, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes)
{
	struct session *session = ctx;
	char *error = NULL;

	pause_session(session);
	rocksdb_put(session->engine->db, session->writing, key, key_bytes, value,
	    value_bytes, &error);
	check(error, "put");
	return 0;
}

static int erase(void *ctx, const void *key, size_t key_bytes)
{
	struct session *session = ctx;
	char *error = NULL;

	pause_session(session);
	rocksdb_delete(session->engine->db, session->writing, key, key_bytes, &error);
	check(error, "delete");
	return 0;
}

static int rename_key(void *ctx, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes)
{
	struct session *session = ctx;
	rocksdb_pinnableslice_t *there = look_up(session, dst, dst_bytes), *slice;
	const char *value;
	size_t bytes;

	if (there) {
		rocksdb_pinnableslice_destroy(there);
		return -EEXIST;
	}
	slice = look_up(session, src, src_bytes);
	if (!slice)
		return -ENOENT;
	value = rocksdb_pinnableslice_value(slice, &bytes);
	rocksdb_writebatch_clear(session->batch);
	rocksdb_writebatch_put(session->batch, dst, dst_bytes, value, bytes);
	rocksdb_writebatch_delete(session->batch, src, src_bytes);
	rocksdb_pinnableslice_destroy(slice);
	return write_batch(session);
}

static rocksdb_iterator_t *iterator_of(struct session *session)
{
	if (!session->iterator)
		session->iterator =
		    rocksdb_create_iterator(session->engine->db, session->reading);
	return session->iterator;
}

static const char *key_in(rocksdb_iterator_t *iterator, const struct bench_list *list,
    size_t *ret_bytes)
{
	const char *key;

	if (!rocksdb_iter_valid(iterator))
		return NULL;
	key = rocksdb_iter_key(iterator, ret_bytes);
	if (*ret_bytes < list->prefix_bytes || memcmp(key, list->prefix, list->prefix_bytes) != 0)
		return NULL;
	return key;
}

static int list(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	rocksdb_iterator_t *iterator = iterator_of(ctx);
	const char *key;
	size_t bytes;

	if (list->after) {
		rocksdb_iter_seek(iterator, list->after, list->after_bytes);
		key = key_in(iterator, list, &bytes);
		if (key && bytes == list->after_bytes && memcmp(key, list->after, bytes) == 0)
			rocksdb_iter_next(iterator);
	} else {
		rocksdb_iter_seek(iterator, list->prefix, list->prefix_bytes);
	}
	for (unsigned i = 0; i < list->limit; i++) {
		key = key_in(iterator, list, &bytes);
		if (!key)
			break;
		sink_key(sink, key, bytes);
		if (list->has_values) {
			const char *value = rocksdb_iter_value(iterator, &bytes);

			sink_value(sink, value, bytes);
		}
		if (i + 1 < list->limit)
			rocksdb_iter_next(iterator);
	}
	return 0;
}

static int list_dir(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	rocksdb_iterator_t *iterator = iterator_of(ctx);
	uint8_t next[BENCH_KEY_MAX];
	size_t next_bytes = list->prefix_bytes;

	memcpy(next, list->prefix, next_bytes);
	for (unsigned i = 0; i < list->limit; i++) {
		const char *key;
		size_t bytes;

		rocksdb_iter_seek(iterator, (const char *)next, next_bytes);
		key = key_in(iterator, list, &bytes);
		if (!key)
			break;
		bytes = bench_entry_bytes(key, bytes, list->prefix_bytes);
		sink_key(sink, key, bytes);
		next_bytes = bench_after_prefix(key, bytes, next);
	}
	return 0;
}

static const char *setting(enum bench_level level)
{
	switch (level) {
	case BENCH_LOSSY:
		return "no WAL; 2 memtables of 64 MiB, no compression, no bloom";
	case BENCH_PROCESS:
		return "WAL, sync=false; 2 memtables of 64 MiB, no compression, no bloom";
	default:
		return "WAL, sync=true; 2 memtables of 64 MiB, no compression, no bloom";
	}
}

const struct bench_driver driver_rocksdb = {
    .name = "rocksdb",
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
