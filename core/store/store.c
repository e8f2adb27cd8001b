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
	int err = space_alloc_blocks(store->space, SPACE_DATA, want, ret);

	if (err == -ENOSPC && atomic_load(&store->pending_bytes) && store_checkpoint(store) == 0)
		err = space_alloc_blocks(store->space, SPACE_DATA, want, ret);
	return err;
}

void store_counters(struct store *store, struct store_counters *ret)
{
	const struct store_stats *stats = &store->stats;
	const struct tree_counters *tree = &store->tree.counters;
	struct pool_counters pool;

	pool_counters(store->pool, &pool);
	*ret = (struct store_counters){
	    .gets = atomic_load(&stats->gets),
	    .cursors = atomic_load(&stats->cursors),
	    .commits = atomic_load(&stats->commits),
	    .puts = atomic_load(&stats->puts),
	    .deletes = atomic_load(&stats->deletes),
	    .moves = atomic_load(&tree->moves),
	    .frame_loads = atomic_load(&stats->frame_loads),
	    .splits = atomic_load(&tree->splits),
	    .merges = atomic_load(&tree->merges),
	    .frames_dropped = atomic_load(&stats->frames_dropped),
	    .checkpoints = atomic_load(&stats->checkpoints),
	    .frames_written = atomic_load(&stats->frames_written),
	    .restarts = atomic_load(&tree->restarts),
	    .replayed_records = atomic_load(&stats->replayed_records),
	    .cow_copies = atomic_load(&tree->cow_copies),
	    .tree_frames = pool.live_tree,
	    .dirty_frames = atomic_load(&store->dirty_count),
	};
}
