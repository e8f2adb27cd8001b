/* What the file layer shares with the store, and what it counts. */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>

#include "base/checksum.h"

int store_error(struct store *store)
{
	return atomic_load_explicit(&store->error, memory_order_relaxed);
}

bool store_is_read_only(struct store *store)
{
	return store->options.is_read_only || store_error(store);
}

struct device *store_device(struct store *store)
{
	return store->device;
}

struct pool *store_pool(struct store *store)
{
	return store->pool;
}

struct space *store_space(struct store *store)
{
	return store->space;
}

const struct superblock *store_superblock(struct store *store)
{
	return &store->superblock_at_open;
}

uint32_t store_block_checksum(struct store *store, const void *data)
{
	return checksum32(data, BLOCK_BYTES, store->uuid_seed);
}

int store_alloc_blocks(struct store *store, uint32_t want, struct space_run *ret)
{
	int err;

	if (store->is_memory)
		return -EINVAL;
	err = space_alloc_blocks(store->space, SPACE_DATA, want, ret);

	if (err == -ENOSPC && atomic_load(&store->pending_bytes) && store_checkpoint(store) == 0)
		err = space_alloc_blocks(store->space, SPACE_DATA, want, ret);
	while (err == -ENOSPC && views_end_oldest(store))
		err = space_alloc_blocks(store->space, SPACE_DATA, want, ret);
	return err;
}

static void count_parts(struct store *store, struct store_counters *ret)
{
	struct journal_counters journal = {0};
	struct space_counters space;
	struct pool_counters pool;

	pool_counters(store->pool, &pool);
	ret->cache_slots = pool.slots;
	ret->cache_used = pool.live_tree + pool.live_data + pool.live_pieces;
	ret->cache_hits = pool.hits;
	ret->cache_misses = pool.misses;
	ret->cache_evictions = pool.evictions;
	if (store->is_memory)
		return;
	space_counters(store->space, &space);
	ret->volume_bytes = from_le64(store->superblock_at_open.frame_count) * FRAME_BYTES;
	ret->used_bytes = ret->volume_bytes - space.free_blocks * BLOCK_BYTES;
	ret->free_frames = space.free_frames;
	if (store->journal)
		journal_counters(store->journal, &journal);
	ret->journal_bytes = from_le64(store->superblock_at_open.journal_frames) * FRAME_BYTES;
	ret->journal_used = journal.used_bytes;
	ret->journal_records = journal.records;
	ret->journal_record_bytes = journal.record_bytes;
	ret->journal_writes = journal.writes;
	ret->journal_flushes = journal.syncs;
}

void store_count_commit(struct store *store, uint64_t puts, uint64_t deletes)
{
	unsigned number = thread_number();
	struct store_counts *counts = &store->counts[number];

	counter_add(number, &counts->commits, 1);
	if (puts)
		counter_add(number, &counts->puts, puts);
	if (deletes)
		counter_add(number, &counts->deletes, deletes);
}

void store_sum_counts(struct store *store, struct store_counts *ret)
{
	*ret = (struct store_counts){0};
	for (unsigned i = 0; i < THREAD_NUMBERS; i++) {
		const struct store_counts *counts = &store->counts[i];

		ret->gets += atomic_load_explicit(&counts->gets, memory_order_relaxed);
		ret->commits += atomic_load_explicit(&counts->commits, memory_order_relaxed);
		ret->puts += atomic_load_explicit(&counts->puts, memory_order_relaxed);
		ret->deletes += atomic_load_explicit(&counts->deletes, memory_order_relaxed);
	}
}

void store_counters(struct store *store, struct store_counters *ret)
{
	const struct store_stats *stats = &store->stats;
	const struct tree_counters *tree = &store->tree.counters;
	struct store_counts counts;

	store_sum_counts(store, &counts);
	*ret = (struct store_counters){
	    .gets = counts.gets,
	    .cursors = atomic_load(&stats->cursors),
	    .commits = counts.commits,
	    .puts = counts.puts,
	    .deletes = counts.deletes,
	    .guards_failed = atomic_load(&stats->guards_failed),
	    .moves = atomic_load(&tree->moves) - atomic_load(&store->drops),
	    .drops = atomic_load(&store->drops),
	    .views = views_count(store),
	    .dropping = atomic_load(&store->dropping),
	    .frame_loads = atomic_load(&stats->frame_loads),
	    .cold_gets = atomic_load(&stats->cold_gets),
	    .splits = atomic_load(&tree->splits),
	    .packs = atomic_load(&tree->compactions),
	    .merges = atomic_load(&tree->merges),
	    .frames_dropped = atomic_load(&stats->frames_dropped),
	    .checkpoints = atomic_load(&stats->checkpoints),
	    .checkpoints_failed = atomic_load(&stats->checkpoints_failed),
	    .checkpoint_ns = atomic_load(&stats->checkpoint_ns),
	    .frames_written = atomic_load(&stats->frames_written),
	    .restarts = atomic_load(&tree->restarts),
	    .fallbacks = atomic_load(&stats->fallbacks),
	    .replayed_records = atomic_load(&stats->replayed_records),
	    .cow_copies = atomic_load(&tree->cow_copies),
	    .tree_frames = store_tree_frames(store),
	    .dirty_frames = atomic_load(&store->dirty_count),
	};
	count_parts(store, ret);
}
