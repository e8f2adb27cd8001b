/*
 * Stores in memory: the same tree and the same transactions over a pool that nothing
 * is written from.
 *
 * There is no device, no space map, no journal and no checkpoint.  Every frame is dirty
 * from the day it is made and so never evicted: what does not fit the cache does not fit
 * the store.  The epoch stands still unless views are opened, so that frames are changed
 * where they lie and nothing is copied.
 *
 * 1. Versions come from a counter that each batch moves on by the length of its record,
 *    as the journal's LSN would be.
 * 2. Frame ids of dropped frames are used again at once: no manifest names them.
 * 3. A batch is refused before it has changed anything: it collects the slots that it
 *    may need, and where they are not to be had the answer is -ENOSPC.  Batches that only
 *    add leave MEMORY_HEADROOM slots alone, so that those that take away can always go on.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>

/* The room for one structural step. */
#define MEMORY_HEADROOM TREE_STEP_SLOTS

/* Where versions begin, as in a volume. */
#define FIRST_LSN FRAME_BYTES

static int plant_root(struct store *store)
{
	uint32_t slot;
	int err = pool_lease(store->pool, &slot);

	if (err)
		return err == -ENOBUFS ? -ENOSPC : err;
	store_promise_begin(true);
	err = store_promise(store, 1, true);
	if (!err) {
		tree_plant(&store->tree, slot);
		atomic_store(&store->frames_ever, 1);
	}
	store_promise_end(store);
	return err;
}

int store_open_memory(const struct store_options *options, struct store **ret)
{
	struct store_options own = *options;
	struct store *store;
	int err;

	own.is_read_only = false;
	own.keep_device = false;
	store = store_create(&own);
	if (!store)
		return -ENOMEM;
	store->is_memory = true;
	atomic_store(&store->memory_lsn, FIRST_LSN);
	err = store_open_pool(store, NULL);
	if (!err) {
		store_plan_trees(store, STORE_ROOT_FRAME_ID, 0);
		store->next_id = STORE_ROOT_FRAME_ID + 1;
		err = plant_root(store);
	}
	if (!err)
		err = drop_start(store);
	if (err) {
		store_destroy(store);
		return err;
	}
	*ret = store;
	return 0;
}

lsn_t memory_log(struct store *store, uint32_t body_bytes, lsn_t *ret_end)
{
	lsn_t lsn = atomic_fetch_add(&store->memory_lsn, body_bytes);

	*ret_end = lsn + body_bytes;
	return lsn;
}

int memory_collect_spares(struct store *store, struct tree_spares *spares, uint32_t count, bool is_freeing)
{
	uint32_t extra[MEMORY_HEADROOM], want = is_freeing ? 0 : MEMORY_HEADROOM, kept = 0;
	int err = 0;

	while (spares->count < count && !err) {
		err = pool_lease(store->pool, &spares->slots[spares->count]);
		spares->count += err == 0;
	}
	while (kept < want && !err) {
		err = pool_lease(store->pool, &extra[kept]);
		kept += err == 0;
	}
	while (kept > 0)
		pool_release(store->pool, extra[--kept]);
	if (err)
		store_return_spares(store, spares);
	return err == -ENOBUFS ? -ENOSPC : err;
}
