/*
 * What checks want to know of a store beyond what its users do.
 */
#include "config.h"

#include "store/store_internal.h"

uint64_t store_internal_root(struct store *store)
{
	return atomic_load(&store->has_internal) ? store->internal.root_id : 0;
}

uint64_t store_empty_frames(struct store *store)
{
	return atomic_load(&store->empty_frames);
}

int store_for_each_dropped(struct store *store, int (*fn)(void *ctx, uint64_t frame_id), void *ctx)
{
	int err = 0;

	mutex_lock(&store->dirty_mutex);
	for (uint32_t i = 0; i < store->dropped.count && !err; i++)
		err = fn(ctx, store->dropped.ids[i]);
	mutex_unlock(&store->dirty_mutex);
	return err;
}
