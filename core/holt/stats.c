/*
 * Statistics: the store's counters and ours as one structure, the same as text, and the
 * frames of the tree one by one.
 *
 * Counters are read one after the other while others count on, so two of them need not
 * fit together exactly.  Nothing that is counted is touched.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

static void collect(struct holt *holt, struct holt_stats *ret)
{
	struct store_counters store;

	store_counters(holt->store, &store);
	*ret = (struct holt_stats){
	    .gets = store.gets,
	    .puts = store.puts,
	    .deletes = store.deletes,
	    .renames = atomic_load_explicit(&holt->counters.renames, memory_order_relaxed),
	    .batches = atomic_load_explicit(&holt->counters.batches, memory_order_relaxed),
	    .walks = atomic_load_explicit(&holt->counters.walks, memory_order_relaxed),
	    .guards_failed = store.guards_failed,
	    .moves = store.moves,
	    .drops = store.drops,
	    .frames = store.tree_frames,
	    .free_frames = store.free_frames,
	    .volume_bytes = store.volume_bytes,
	    .used_bytes = store.used_bytes,
	    .restarts = store.restarts,
	    .fallbacks = store.fallbacks,
	    .frame_loads = store.frame_loads,
	    .cold_gets = store.cold_gets,
	    .splits = store.splits,
	    .packs = store.packs,
	    .merges = store.merges,
	    .copies = store.cow_copies,
	    .cache_slots = store.cache_slots,
	    .cache_used = store.cache_used,
	    .cache_dirty = store.dirty_frames,
	    .cache_hits = store.cache_hits,
	    .cache_misses = store.cache_misses,
	    .cache_evictions = store.cache_evictions,
	    .journal_bytes = store.journal_bytes,
	    .journal_used = store.journal_used,
	    .journal_records = store.journal_records,
	    .journal_record_bytes = store.journal_record_bytes,
	    .journal_writes = store.journal_writes,
	    .journal_flushes = store.journal_flushes,
	    .replayed_records = store.replayed_records,
	    .checkpoints = store.checkpoints,
	    .checkpoints_failed = store.checkpoints_failed,
	    .checkpoint_frames = store.frames_written,
	    .checkpoint_ns = store.checkpoint_ns,
	    .views = store.views,
	    .dropping = store.dropping,
	};
}

int holt_stats(struct holt *holt, struct holt_stats *ret, size_t struct_bytes)
{
	struct holt_stats stats;

	if (!holt || !ret || struct_bytes < sizeof(uint64_t))
		return -EINVAL;
	collect(holt, &stats);
	/* A program made for a later version of the structure finds zeros behind it. */
	memset(ret, 0, struct_bytes);
	memcpy(ret, &stats, min_of(struct_bytes, sizeof(stats)));
	return 0;
}

/* ---- text ------------------------------------------------------------------------- */

enum metric_kind { COUNTER, GAUGE };

struct metric {
	const char *name, *help;
	enum metric_kind kind;
	size_t offset;
};

#define METRIC(kind, field, name, help)                                        \
	{                                                                      \
		name, help, kind, offsetof(struct holt_stats, field)           \
	}

static const struct metric metrics[] = {
    METRIC(COUNTER, gets, "holt_gets_total", "Values asked for."),
    METRIC(COUNTER, puts, "holt_puts_total", "Values written."),
    METRIC(COUNTER, deletes, "holt_deletes_total", "Keys deleted."),
    METRIC(COUNTER, renames, "holt_renames_total", "Calls of holt_rename."),
    METRIC(COUNTER, batches, "holt_batches_total", "Batches committed."),
    METRIC(COUNTER, guards_failed, "holt_guards_failed_total", "Commits refused by a guard."),
    METRIC(COUNTER, moves, "holt_moves_total", "Prefixes moved."),
    METRIC(COUNTER, drops, "holt_drops_total", "Prefixes dropped."),
    METRIC(COUNTER, walks, "holt_walks_total", "Cursors opened and visits made."),
    METRIC(GAUGE, frames, "holt_frames", "Frames of the tree."),
    METRIC(GAUGE, free_frames, "holt_free_frames", "Frames of the volume that are wholly free."),
    METRIC(GAUGE, volume_bytes, "holt_volume_bytes", "Size of the volume."),
    METRIC(GAUGE, used_bytes, "holt_used_bytes", "Bytes of the volume in use."),
    METRIC(COUNTER, restarts, "holt_restarts_total", "Searches begun again because of writers."),
    METRIC(COUNTER, fallbacks, "holt_fallbacks_total", "Searches that went on behind the gate."),
    METRIC(COUNTER, frame_loads, "holt_frame_loads_total", "Frames read from the device."),
    METRIC(COUNTER, cold_gets, "holt_cold_gets_total", "Gets that read single blocks of a frame."),
    METRIC(COUNTER, splits, "holt_splits_total", "Frames cut in two."),
    METRIC(COUNTER, packs, "holt_packs_total", "Frames packed."),
    METRIC(COUNTER, merges, "holt_merges_total", "Frames folded into others."),
    METRIC(COUNTER, copies, "holt_copies_total", "Frames copied because they were frozen."),
    METRIC(GAUGE, cache_slots, "holt_cache_slots", "Frames the cache has room for."),
    METRIC(GAUGE, cache_used, "holt_cache_used_slots", "Frames in the cache."),
    METRIC(GAUGE, cache_dirty, "holt_cache_dirty_slots", "Frames that the device does not have yet."),
    METRIC(COUNTER, cache_hits, "holt_cache_hits_total", "Frames looked up and found."),
    METRIC(COUNTER, cache_misses, "holt_cache_misses_total", "Frames looked up and not found."),
    METRIC(COUNTER, cache_evictions, "holt_cache_evictions_total", "Frames that made room for others."),
    METRIC(GAUGE, journal_bytes, "holt_journal_bytes", "Size of the journal."),
    METRIC(GAUGE, journal_used, "holt_journal_used_bytes", "Bytes of it that no checkpoint has covered."),
    METRIC(COUNTER, journal_records, "holt_journal_records_total", "Records appended."),
    METRIC(COUNTER, journal_record_bytes, "holt_journal_record_bytes_total", "Bytes of these."),
    METRIC(COUNTER, journal_writes, "holt_journal_writes_total", "Writes of the journal to the device."),
    METRIC(COUNTER, journal_flushes, "holt_journal_flushes_total", "Flushes of the device for the journal."),
    METRIC(COUNTER, replayed_records, "holt_replayed_records_total", "Records replayed by opening."),
    METRIC(COUNTER, checkpoints, "holt_checkpoints_total", "Checkpoints made."),
    METRIC(COUNTER, checkpoints_failed, "holt_checkpoints_failed_total", "Checkpoints that failed."),
    METRIC(COUNTER, checkpoint_frames, "holt_checkpoint_frames_total", "Frames written by checkpoints."),
    METRIC(COUNTER, checkpoint_ns, "holt_checkpoint_nanoseconds_total", "Time that checkpoints took."),
    METRIC(GAUGE, views, "holt_views", "Views that are open."),
    METRIC(GAUGE, dropping, "holt_dropping", "Dropped prefixes whose keys are not all erased."),
};

_Static_assert(ARRAY_COUNT(metrics) == sizeof(struct holt_stats) / sizeof(uint64_t),
    "each statistic has its line of text");

int holt_stats_text(struct holt *holt, char *text, size_t size)
{
	struct holt_stats stats;
	int used = 0;

	if (!holt || (!text && size))
		return -EINVAL;
	collect(holt, &stats);
	for (size_t i = 0; i < ARRAY_COUNT(metrics); i++) {
		const struct metric *metric = &metrics[i];
		uint64_t value;

		memcpy(&value, (const char *)&stats + metric->offset, sizeof(value));
		used += snprintf((size_t)used < size ? text + used : NULL,
		    (size_t)used < size ? size - (size_t)used : 0,
		    "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", metric->name, metric->help,
		    metric->name, metric->kind == COUNTER ? "counter" : "gauge", metric->name,
		    value);
	}
	return used;
}

/* ---- frames ----------------------------------------------------------------------- */

struct frame_visit {
	int (*visit)(void *ctx, const struct holt_frame *frame);
	void *ctx;
};

static int visit_frame(void *ctx, const struct store_frame *frame)
{
	const struct frame_visit *visit = ctx;
	struct holt_frame copy = {
	    .id = frame->id,
	    .parent = frame->parent,
	    .depth = frame->depth,
	    .key_depth = frame->key_depth,
	    .bytes = frame->bytes,
	    .live_bytes = frame->live_bytes,
	    .dead_bytes = frame->dead_bytes,
	    .free_bytes = frame->free_bytes,
	    .inner_nodes = frame->inner_nodes,
	    .leaves = frame->leaves,
	    .crossings = frame->crossings,
	    .version = frame->version,
	    .is_dirty = frame->is_dirty,
	};

	return visit->visit(visit->ctx, &copy);
}

int holt_frames(struct holt *holt, int (*visit)(void *ctx, const struct holt_frame *frame), void *ctx)
{
	struct frame_visit frames = {.visit = visit, .ctx = ctx};

	return holt && visit ? store_for_each_frame(holt->store, visit_frame, &frames) : -EINVAL;
}
