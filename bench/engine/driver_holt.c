/*
 * Our own engine, as any program uses it: one store in one sparse file.
 *
 * Level PROCESS: the journal's ring lies in shared memory, so that a change outlives the
 * process without a system call.  Walks hold nothing between calls, so there is nothing
 * to pause.  A store has one level for all its calls; a session with another one opens
 * the store again.
 */
#include "config.h"

#include "bench/engine/ours.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "holt/holt.h"
#include "holt/holt_internal.h"
#include "tree/node.h"

struct engine {
	struct holt *holt;
	struct holt_options options;
	char path[4096];
};

struct session {
	struct engine *engine;
	struct holt *holt;
};

/* The most the volume may hold, and with it the journal's size: as the library has it by
 * default, or little where there are so few keys that nothing is measured. */
static uint64_t volume_bytes(uint64_t keys)
{
	return keys < 10000 ? 256ull << 20 : 64ull << 30;
}

static int open_store(const struct bench_options *options, void **ret)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	int err;

	if (!engine)
		return -ENOMEM;
	engine->options = (struct holt_options){
	    .struct_bytes = sizeof(struct holt_options),
	    .flags = HOLT_CREATE | (options->is_quiet ? HOLT_NO_THREADS : 0),
	    .durability = HOLT_PROCESS,
	    .cache_bytes = max_of(options->cache_bytes, 8ull << 20),
	    .volume_bytes = volume_bytes(options->keys),
	};
	snprintf(engine->path, sizeof(engine->path), "%s/volume", options->dir);
	err = holt_open(engine->path, &engine->options, &engine->holt);
	if (err)
		free(engine);
	else
		*ret = engine;
	return err;
}

static void close_store(void *ctx)
{
	struct engine *engine = ctx;
	int err = holt_close(engine->holt);

	if (err)
		bench_die("ours: close: %s", strerror(-err));
	free(engine);
}

static int settle(void *ctx)
{
	struct engine *engine = ctx;

	return holt_checkpoint(engine->holt);
}

static int set_level(struct engine *engine, enum bench_level level)
{
	static const enum holt_durability levels[] = {
	    [BENCH_LOSSY] = HOLT_LOSSY,
	    [BENCH_PROCESS] = HOLT_PROCESS,
	    [BENCH_SYNC] = HOLT_SYNC,
	};
	int err;

	if (engine->options.durability == levels[level])
		return 0;
	err = holt_close(engine->holt);
	if (err)
		return err;
	engine->options.durability = levels[level];
	return holt_open(engine->path, &engine->options, &engine->holt);
}

static int session_open(void *ctx, enum bench_level level, void **ret)
{
	struct session *session = calloc(1, sizeof(*session));
	int err;

	if (!session)
		return -ENOMEM;
	session->engine = ctx;
	err = set_level(ctx, level);
	if (err)
		return err;
	session->holt = session->engine->holt;
	*ret = session;
	return 0;
}

static void session_close(void *ctx)
{
	free(ctx);
}

static void pause_session(void *ctx)
{
}

static int load(void *ctx, const void *const *keys, const size_t *key_bytes,
    const void *const *values, const size_t *value_bytes, unsigned count)
{
	struct session *session = ctx;

	for (unsigned i = 0; i < count; i++) {
		int err = holt_put(session->holt, keys[i], key_bytes[i], values[i],
		    value_bytes[i]);

		if (err)
			return err;
	}
	return 0;
}

static int get(void *ctx, const void *key, size_t key_bytes, struct bench_sink *sink)
{
	struct session *session = ctx;
	uint8_t value[BENCH_VALUE_MAX];
	size_t bytes;
	int err = holt_get(session->holt, key, key_bytes, value, sizeof(value), &bytes, NULL);

	if (!err)
		sink_value(sink, value, bytes);
	return err;
}

static int put(void *ctx, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes)
{
	struct session *session = ctx;

	return holt_put(session->holt, key, key_bytes, value, value_bytes);
}

static int erase(void *ctx, const void *key, size_t key_bytes)
{
	struct session *session = ctx;

	return holt_delete(session->holt, key, key_bytes);
}

static int rename_key(void *ctx, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes)
{
	struct session *session = ctx;

	return holt_rename(session->holt, src, src_bytes, dst, dst_bytes, 0);
}

static int take_key(void *ctx, const struct holt_item *item)
{
	sink_key(ctx, item->key, item->key_bytes);
	return 0;
}

static int take_pair(void *ctx, const struct holt_item *item)
{
	sink_key(ctx, item->key, item->key_bytes);
	sink_value(ctx, item->value, item->value_bytes);
	return 0;
}

static int list(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	struct session *session = ctx;
	struct holt_range range = {
	    .prefix = list->prefix,
	    .prefix_bytes = list->prefix_bytes,
	    .start = list->after,
	    .start_bytes = list->after_bytes,
	    .is_after = list->after != NULL,
	    .flags = list->has_values ? 0 : HOLT_KEYS_ONLY,
	};

	return holt_visit(session->holt, &range, list->limit,
	    list->has_values ? take_pair : take_key, sink);
}

static int list_dir(void *ctx, const struct bench_list *list, struct bench_sink *sink)
{
	struct session *session = ctx;
	struct holt_range range = {
	    .prefix = list->prefix,
	    .prefix_bytes = list->prefix_bytes,
	    .has_delimiter = true,
	    .delimiter = '/',
	    .flags = HOLT_KEYS_ONLY,
	};

	return holt_visit(session->holt, &range, list->limit, take_key, sink);
}

static const char *setting(enum bench_level level)
{
	switch (level) {
	case BENCH_LOSSY:
		return "HOLT_LOSSY";
	case BENCH_PROCESS:
		return "HOLT_PROCESS, journal ring in shared memory";
	default:
		return "HOLT_SYNC, waiters share a flush";
	}
}

static void read_stats(const struct engine *engine, struct holt_stats *ret)
{
	int err = holt_stats(engine->holt, ret, sizeof(*ret));

	if (err)
		bench_die("ours: statistics: %s", strerror(-err));
}

void ours_stats(void *ctx, struct ours_stats *ret)
{
	struct engine *engine = ctx;
	struct device_counters device;
	struct holt_stats stats;

	read_stats(engine, &stats);
	/* The library does not tell this one. */
	device_counters(store_device(engine->holt->store), &device);
	*ret = (struct ours_stats){
	    .used_bytes = stats.used_bytes,
	    .journal_bytes = stats.journal_bytes,
	    .replayed_records = stats.replayed_records,
	    .device_reads = device.reads,
	};
}

struct fill {
	uint64_t live_bytes, frames;
};

static int add_frame(void *ctx, const struct holt_frame *frame)
{
	struct fill *fill = ctx;

	fill->live_bytes += frame->live_bytes;
	fill->frames++;
	return 0;
}

double ours_fill(void *ctx)
{
	struct engine *engine = ctx;
	struct fill fill = {0};
	int err = holt_frames(engine->holt, add_frame, &fill);

	if (err)
		bench_die("ours: frames: %s", strerror(-err));
	return (double)fill.live_bytes / ((double)fill.frames * IMAGE_CAPACITY);
}

int ours_move_prefix(void *ctx, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes)
{
	struct session *session = ctx;

	return holt_move_prefix(session->holt, src, src_bytes, dst, dst_bytes);
}

int ours_drop_prefix(void *ctx, const void *prefix, size_t prefix_bytes)
{
	struct session *session = ctx;

	return holt_drop_prefix(session->holt, prefix, prefix_bytes);
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
