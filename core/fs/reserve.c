/*
 * Promises: what a full volume still has to have room for.
 *
 *	the tree    frames to record data that was taken in, and to remove files; and
 *	            what records of claimed blocks grow by when these are written
 *	claims      a block for each that fallocate(2) allocated and nobody has written
 *	again       some blocks to write over what is there: the new copy needs a place
 *	            before the old one is free
 *
 * A claim is an entry of a span record without a place (fs_format.h).  It has a right
 * to a block, any block: core/space keeps as many from everybody else as there are
 * claims.  A claim goes through
 *
 *	            fallocate              write              flush
 *	    hole ------------> open claim ------> pending ------------> block with a place
 *	      ^                    |                 |                      |
 *	      +--------------------+-----------------+----------------------+
 *	            truncate, punch, unlink: a transaction without it
 *
 * Counts:
 *  1. `recorded` is what the tree says under KEY_VOLUME_CLAIMS, put in the very
 *     transaction that changes spans: at every instant the sum over all span records.
 *     claims_mutex makes the order of those transactions that of the counts.
 *  2. `open` = `recorded` + `coming` - claims over which something is pending.
 *  3. Wanted from core/space: `open` + data_base blocks for data; tree_base blocks (on
 *     small volumes more while there are claims), and a hundredth of the claims, for
 *     the tree.  Held is never more than wanted.
 *  4. While less is held than wanted nothing new is taken in (BLOCK_NEW); claims, and
 *     writing over what is there, go on with what there is.  So what a checkpoint frees
 *     goes to promises first.
 *
 * Claims made where blocks were freed in the same transaction (FALLOC_FL_ZERO_RANGE)
 * are not promised before: the blocks rest until a checkpoint, and then 4. holds.
 *
 * A hundredth: a span record takes 4 bytes more for the checksum of a written block
 * and at worst 16 for an extent; twice that in frames half full.
 *
 * Crash: `recorded` is in the tree, everything else follows from it at the next open.
 *
 * Locking: segment_mutex, so that taking a block and its promise are one step.
 */
#include "config.h"

#include "fs/reserve.h"

#include <errno.h>

#include "base/assert.h"
#include "base/log.h"
#include "fs/fs_internal.h"

#define CLAIMS_PER_TREE_BLOCK 100u
#define CLAIMS_FRAMES 8u /* as long as there are any: three records, and a split */
#define CLAIMS_SHARE 4u	 /* but no more than this part of the volume */
#define RESERVE_FRAMES 12u
#define RESERVE_SHARE 10u
#define AGAIN_BLOCKS 256u /* a large write and its edges, at one go */
#define AGAIN_SHARE 64u	  /* but no more than this part of the volume */

/* ---- wanted and held ----------------------------------------------------------- */

static uint64_t tree_wanted(const struct reserve *reserve)
{
	uint64_t claims = reserve->recorded + reserve->coming;

	if (claims == 0)
		return reserve->tree_base;
	return max_of(reserve->tree_base, reserve->tree_claims) +
	    div_up(claims, CLAIMS_PER_TREE_BLOCK);
}

static uint64_t data_wanted(const struct reserve *reserve)
{
	return reserve->data_base + reserve->open;
}

/* Gives back what is held beyond what is wanted. */
static void fit_locked(struct fs *fs)
{
	struct reserve *reserve = &fs->reserve;
	uint64_t tree = tree_wanted(reserve), data = data_wanted(reserve);

	if (reserve->tree_held > tree) {
		space_unreserve(fs->space, SPACE_TREE, reserve->tree_held - tree);
		reserve->tree_held = tree;
	}
	if (reserve->data_held > data) {
		space_unreserve(fs->space, SPACE_DATA, reserve->data_held - data);
		reserve->data_held = data;
	}
}

static bool is_whole(const struct reserve *reserve)
{
	return reserve->tree_held == tree_wanted(reserve) &&
	    reserve->data_held == data_wanted(reserve);
}

static void raise_data_locked(struct fs *fs)
{
	struct reserve *reserve = &fs->reserve;

	reserve->data_held += space_reserve_most(fs->space, SPACE_DATA,
	    data_wanted(reserve) - reserve->data_held);
}

/*
 * As much as there is.  The tree's base comes first, then data, then the tree's share; which
 * it gives back when data has become short, as after a split that was paid from what is
 * kept for the tree.
 */
static void raise_locked(struct fs *fs)
{
	struct reserve *reserve = &fs->reserve;

	if (reserve->tree_held < reserve->tree_base)
		reserve->tree_held += space_reserve_most(fs->space, SPACE_TREE,
		    reserve->tree_base - reserve->tree_held);
	raise_data_locked(fs);
	if (reserve->data_held < data_wanted(reserve) && reserve->tree_held > reserve->tree_base) {
		space_unreserve(fs->space, SPACE_TREE, reserve->tree_held - reserve->tree_base);
		reserve->tree_held = reserve->tree_base;
		raise_data_locked(fs);
	}
	reserve->tree_held += space_reserve_most(fs->space, SPACE_TREE,
	    tree_wanted(reserve) - reserve->tree_held);
}

int reserve_ensure_locked(struct fs *fs, enum block_use use)
{
	struct reserve *reserve = &fs->reserve;

	if (!is_whole(reserve))
		raise_locked(fs);
	if (use == BLOCK_NEW)
		return is_whole(reserve) ? 0 : -ENOSPC;
	return reserve->tree_held >= reserve->tree_base ? 0 : -ENOSPC;
}

int reserve_redeem_locked(struct fs *fs, enum block_use use, uint32_t want, struct space_run *ret)
{
	struct reserve *reserve = &fs->reserve;
	uint64_t mine = reserve->data_held;
	int err;

	if (use == BLOCK_AGAIN)
		mine -= min_of(mine, reserve->open);
	if (mine == 0)
		return -ENOSPC;
	err = space_redeem_blocks(fs->space, (uint32_t)min_of((uint64_t)want, mine), ret);
	if (err == 0)
		reserve->data_held -= ret->count;
	return err;
}

int reserve_refill(struct fs *fs)
{
	struct space_counters counters;
	bool is_short;
	int err = 0;

	mutex_lock(&fs->segment_mutex);
	raise_locked(fs);
	is_short = !is_whole(&fs->reserve);
	mutex_unlock(&fs->segment_mutex);
	space_counters(fs->space, &counters);
	if (is_short || counters.resting_blocks > 0)
		err = store_checkpoint(fs->store);
	mutex_lock(&fs->segment_mutex);
	raise_locked(fs);
	mutex_unlock(&fs->segment_mutex);
	return err;
}

uint64_t reserve_unavailable(struct fs *fs, uint64_t *ret_open)
{
	const struct reserve *reserve = &fs->reserve;
	uint64_t missing, tree;

	mutex_lock(&fs->segment_mutex);
	missing = data_wanted(reserve) - reserve->data_held;
	tree = tree_wanted(reserve);
	*ret_open = reserve->open;
	mutex_unlock(&fs->segment_mutex);
	return missing + tree;
}

/* ---- the last resort -------------------------------------------------------------- */

/*
 * On a full volume the tree needs frames to be changed at all: the store asks for as
 * many as a transaction may dirty.  Those that the promise is for get it by taking it
 * back just before their commit, with segment_mutex held, so that no data takes the
 * space.
 */
int batch_commit_last(struct fs *fs, struct store_batch *batch)
{
	struct reserve *reserve = &fs->reserve;
	int err = store_commit(fs->store, batch, NULL);

	if (err != -ENOSPC)
		return err;
	mutex_lock(&fs->segment_mutex);
	space_unreserve(fs->space, SPACE_TREE, reserve->tree_held);
	reserve->tree_held = 0;
	store_batch_use_headroom(batch);
	err = store_commit(fs->store, batch, NULL);
	raise_locked(fs);
	/* What the commit used comes back with a checkpoint; until then no more data
	 * is taken in. */
	if (reserve->tree_held < tree_wanted(reserve) && store_checkpoint(fs->store) == 0)
		raise_locked(fs);
	mutex_unlock(&fs->segment_mutex);
	return err;
}

/* ---- claims ------------------------------------------------------------------------ */

uint64_t claims_cost(uint64_t count)
{
	return count + count / CLAIMS_PER_TREE_BLOCK;
}

int claims_promise(struct fs *fs, uint64_t count)
{
	struct reserve *reserve = &fs->reserve;
	uint64_t share;
	int err;

	if (count == 0)
		return 0;
	mutex_lock(&fs->segment_mutex);
	err = reserve_ensure_locked(fs, BLOCK_NEW);
	if (err == 0)
		err = space_reserve(fs->space, SPACE_DATA, count);
	if (err == 0) {
		reserve->data_held += count;
		reserve->open += count;
		reserve->coming += count;
		share = tree_wanted(reserve) - reserve->tree_held;
		err = space_reserve(fs->space, SPACE_TREE, share);
		if (err == 0) {
			reserve->tree_held += share;
		} else {
			reserve->open -= count;
			reserve->coming -= count;
			fit_locked(fs);
		}
	}
	mutex_unlock(&fs->segment_mutex);
	return err;
}

void claims_settle(struct fs *fs, uint64_t count, bool is_committed)
{
	struct reserve *reserve = &fs->reserve;

	mutex_lock(&fs->segment_mutex);
	ASSERT(reserve->coming >= count);
	reserve->coming -= count;
	if (!is_committed)
		reserve->open -= min_of(reserve->open, count);
	fit_locked(fs);
	mutex_unlock(&fs->segment_mutex);
}

void claims_take_locked(struct fs *fs, uint64_t count)
{
	fs->reserve.open -= min_of(fs->reserve.open, count);
	fit_locked(fs);
}

void claims_open(struct fs *fs, uint64_t count)
{
	if (count == 0)
		return;
	mutex_lock(&fs->segment_mutex);
	fs->reserve.open += count;
	mutex_unlock(&fs->segment_mutex);
}

void claims_close(struct fs *fs, uint64_t count)
{
	if (count == 0)
		return;
	mutex_lock(&fs->segment_mutex);
	claims_take_locked(fs, count);
	mutex_unlock(&fs->segment_mutex);
}

/* A count that was damaged must not wrap. */
static uint64_t changed(uint64_t count, int64_t change)
{
	if (change >= 0)
		return count + (uint64_t)change;
	return count - min_of(count, (uint64_t)-change);
}

int batch_commit_claims(struct fs *fs, struct store_batch *batch, int64_t change, bool is_last)
{
	uint64_t count;
	le64 value;
	int err;

	if (change == 0)
		return is_last ? batch_commit_last(fs, batch) : batch_commit(fs, batch);
	mutex_lock(&fs->claims_mutex);
	count = changed(fs->reserve.recorded, change);
	value = to_le64(count);
	store_batch_put(batch, KEY_VOLUME_CLAIMS, sizeof(KEY_VOLUME_CLAIMS) - 1, &value,
	    sizeof(value));
	err = is_last ? batch_commit_last(fs, batch) : batch_commit(fs, batch);
	if (err == 0) {
		mutex_lock(&fs->segment_mutex);
		fs->reserve.recorded = count;
		fit_locked(fs);
		mutex_unlock(&fs->segment_mutex);
	}
	mutex_unlock(&fs->claims_mutex);
	return err;
}

/* ---- life ----------------------------------------------------------------------------- */

/* More than the volume has blocks cannot be; the check says what it should be. */
static int read_claims(struct fs *fs, uint64_t total_blocks, uint64_t *ret)
{
	uint32_t bytes;
	le64 count;
	int err = store_get(fs->store, KEY_VOLUME_CLAIMS, sizeof(KEY_VOLUME_CLAIMS) - 1,
	    &count, sizeof(count), &bytes, NULL);

	*ret = 0;
	if (err == -ENOENT)
		return 0;
	if (err == 0 && (bytes != sizeof(count) || from_le64(count) > total_blocks))
		err = -EUCLEAN;
	if (err < 0 && err != -ERANGE && err != -EUCLEAN)
		return err;
	if (err < 0)
		log_error("the counter of allocated blocks is damaged: space for them is "
			  "not kept; check the volume");
	else
		*ret = from_le64(count);
	return 0;
}

/* Whole frames, but no more than a part of the volume. */
static uint64_t tree_blocks(uint64_t total_blocks, uint32_t frames, uint32_t share)
{
	return min_of((uint64_t)frames, total_blocks / share / FRAME_BLOCKS) * FRAME_BLOCKS;
}

/* As much is promised as there is: a full volume must open all the same. */
int reserve_open(struct fs *fs)
{
	struct reserve *reserve = &fs->reserve;
	struct space_counters counters;
	uint64_t claims;
	int err;

	space_counters(fs->space, &counters);
	err = read_claims(fs, counters.total_blocks, &claims);
	if (err < 0)
		return err;
	mutex_lock(&fs->segment_mutex);
	reserve->recorded = reserve->open = claims;
	if (!fs->is_read_only) {
		reserve->tree_base =
		    tree_blocks(counters.total_blocks, RESERVE_FRAMES, RESERVE_SHARE);
		reserve->tree_claims =
		    tree_blocks(counters.total_blocks, CLAIMS_FRAMES, CLAIMS_SHARE);
		reserve->data_base = min_of(counters.total_blocks / AGAIN_SHARE,
		    (uint64_t)AGAIN_BLOCKS);
		raise_locked(fs);
	}
	mutex_unlock(&fs->segment_mutex);
	return 0;
}

void reserve_drop(struct fs *fs)
{
	struct reserve *reserve = &fs->reserve;

	mutex_lock(&fs->segment_mutex);
	space_unreserve(fs->space, SPACE_TREE, reserve->tree_held);
	space_unreserve(fs->space, SPACE_DATA, reserve->data_held);
	reserve->tree_held = reserve->data_held = 0;
	mutex_unlock(&fs->segment_mutex);
}
