/*
 * Our own engine, as the file layer uses it: one store on one sparse file.
 *
 * Level PROCESS: the journal's ring lies in shared memory, so that a committed batch
 * outlives the process without a system call.  Cursors hold nothing between calls, so
 * there is nothing to pause.
 */
#include "config.h"

#include "bench/engine/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/bytes.h"
#include "store/store.h"

struct engine {
	struct store *store;
};

struct session {
	struct store *store;
	struct store_batch *batch;
	enum journal_level level;
};

static int create(const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) != 0)
		err = -errno;
	close(fd);
	return err;
}

/* The most the volume may hold, and with it the journal's size: 256 MiB. */
#define VOLUME_BYTES (64ull << 30)

static int format(struct device *device)
{
	struct store_format_options options = {0};

	if (getrandom(options.uuid, sizeof(options.uuid), 0) < 0)
		return -errno;
	return store_format(device, &options);
}

static int open_store(const struct bench_options *options, void **ret)
{
	struct store_options how = {
	    .cache_bytes = max_of(options->cache_bytes, 8ull << 20),
	    .has_shared_ring = true,
	    .no_threads = options->is_quiet,
	};
	struct device_options device_options = {.lock_wait_ms = 5000};
	struct engine *engine = calloc(1, sizeof(*engine));
	struct device *device;
	char path[4096];
	bool is_new;
	int err;

	if (!engine)
		return -ENOMEM;
	snprintf(path, sizeof(path), "%s/volume", options->dir);
	is_new = access(path, F_OK) != 0;
	err = is_new ? create(path, VOLUME_BYTES) : 0;
	if (!err)
		err = device_open(path, &device_options, &device);
	if (!err && is_new)
		err = format(device);
	if (!err)
		err = store_open(device, &how, &engine->store);
	if (err)
		free(engine);
	else
		*ret = engine;
	return err;
}

static void close_store(void *ctx)
{
	struct engine *engine = ctx;
	int err = store_close(engine->store);

	if (err)
		bench_die("ours: close: %s", strerror(-err));
	free(engine);
}

static int settle(void *ctx)
{
	struct engine *engine = ctx;

	return store_checkpoint(engine->store);
}

static int session_open(void *ctx, enum bench_level level, void **ret)
{
	static const enum journal_level levels[] = {
	    [BENCH_LOSSY] = JOURNAL_LOSSY,
	    [BENCH_PROCESS] = JOURNAL_PROCESS,
	    [BENCH_SYNC] = JOURNAL_SYNC,
	};
	struct engine *engine = ctx;
	struct session *session = calloc(1, sizeof(*session));
	int err;

	if (!session)
		return -ENOMEM;
	session->store = engine->store;
	session->level = levels[level];
	err = store_batch_create(engine->store, &session->batch);
	*ret = session;
	return err;
}

static void session_close(void *ctx)
{
	struct session *session = ctx;

	store_batch_destroy(session->batch);
	free(session);
}

static void pause_session(void *ctx)
{
}

static int commit(struct session *session)
{
	lsn_t lsn;
	int err = store_commit(session->store, session->batch, &lsn);

	return err ? err : store_sync(session->store, lsn, session->level);
}

static int load(void *ctx, const void *const *keys, const size_t *key_bytes,
    const void *const *values, const size_t *value_bytes, unsigned count)
{
	struct session *session = ctx;

	for (unsigned i = 0; i < count; i++) {
		int err;

		store_batch_reset(session->batch);
		store_batch_put(session->batch, keys[i], (uint32_t)key_bytes[i],
		    values[i], (uint32_t)value_bytes[i]);
		err = store_commit(session->store, session->batch, NULL);
		if (err)
			return err;
	}
	return 0;
}

static int get(void *ctx, const void *key, size_t key_bytes, struct bench_sink *sink)
{
	struct session *session = ctx;
	uint8_t value[BENCH_VALUE_MAX];
	uint32_t bytes;
	int err = store_get(session->store, key, (uint32_t)key_bytes, value,
	    sizeof(value), &bytes, NULL);

	if (!err)
		sink_value(sink, value, bytes);
	return err;
}

static int put(void *ctx, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes)
{
	struct session *session = ctx;

	store_batch_reset(session->batch);
	store_batch_put(session->batch, key, (uint32_t)key_bytes, value, (uint32_t)value_bytes);
	return commit(session);
}

static int erase(void *ctx, const void *key, size_t key_bytes)
{
	struct session *session = ctx;

	store_batch_reset(session->batch);
	store_batch_delete(session->batch, key, (uint32_t)key_bytes);
	return commit(session);
}

static int rename_key(void *ctx, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes)
{
	struct session *session = ctx;
	uint8_t value[BENCH_VALUE_MAX];
	uint64_t version;
	uint32_t bytes;
	int err = store_get(session->store, src, (uint32_t)src_bytes, value,
	    sizeof(value), &bytes, &version);

	if (err)
		return err;
	store_batch_reset(session->batch);
	store_batch_require_version(session->batch, src, (uint32_t)src_bytes, version);
	store_batch_require_absent(session->batch, dst, (uint32_t)dst_bytes);
	store_batch_put(session->batch, dst, (uint32_t)dst_bytes, value, bytes);
	store_batch_delete(session->batch, src, (uint32_t)src_bytes);
	return commit(session);
}

static int show_key(void *ctx, const struct store_item *item)
{
	sink_key(ctx, item->key, item->key_bytes);
	return 0;
}

static int show_both(void *ctx, const struct store_item *item)
{
	sink_key(ctx, item->key, item->key_bytes);
	sink_value(ctx, item->value, item->value_bytes);
	return 0;
}

static struct store_range range_of(const struct bench_list *list)
{
	return (struct store_range){
	    .prefix = list->prefix,
	    .prefix_bytes = (uint32_t)list->prefix_bytes,
	    .start = list->after,
	    .start_bytes = list->after ? (uint32_t)list->after_bytes : 0,
	    .is_after = list->after,
	};
}

static int list(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	struct session *session = ctx;
	struct store_range range = range_of(list);

	range.keys_only = !list->has_values;
	return store_visit(session->store, &range, list->limit,
	    list->has_values ? show_both : show_key, sink);
}

static int list_dir(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	struct session *session = ctx;
	struct store_range range = range_of(list);

	range.has_delimiter = true;
	range.delimiter = '/';
	return store_visit(session->store, &range, list->limit, show_key, sink);
}

static const char *setting(enum bench_level level)
{
	switch (level) {
	case BENCH_LOSSY:
		return "journal in memory, not waited for";
	case BENCH_PROCESS:
		return "journal ring in shared memory";
	default:
		return "journal written and flushed, waiters share a flush";
	}
}

const struct bench_driver driver_holt = {
    .name = "ours",
    .open = open_store,
    .close = close_store,
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
