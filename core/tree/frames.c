/*
 * Frames as a whole: copy on write between epochs, publishing, dropping, and the
 * checksums that go to disk with them.
 *
 * State of a live frame, by its slot's dirty epoch against the tree's:
 *
 *   0             clean: the disk has it
 *   = epoch       dirty: a writer changes it where it is
 *   cut .. epoch  dirty as well, and known to be; but a view was opened since
 *   < cut         frozen: the checkpoint under way has still to write it; a writer
 *                 copies it first, and the old slot is the checkpoint's to release
 *
 * An image's *birth* is the epoch of the first change that made it what it is.  Views
 * see the tree as it was at the end of an epoch: an image born up to then and changed
 * later is copied before, and the old one is the view's.  Since every view ended an epoch
 * before the present one, only the newest need be asked.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include "base/assert.h"
#include "base/checksum.h"

/* For ASSERT_SLOW: what a structural step made is a frame in order. */
static inline bool is_in_order(const void *image)
{
	const char *why;

	return image_check(image, &why) == 0;
}

uint32_t tree_take_spare(struct tree_spares *spares)
{
	ASSERT(spares->count > 0);
	return spares->slots[--spares->count];
}

/* The disk will get it from the checkpoint under way. */
static bool is_frozen(struct tree *tree, uint32_t slot)
{
	uint64_t epoch = pool_dirty_epoch(tree->pool, slot);

	return epoch && epoch < tree->cut;
}

/* The next checkpoint knows of it. */
static bool is_listed(struct tree *tree, uint32_t slot)
{
	return pool_dirty_epoch(tree->pool, slot) >= tree->cut;
}

static bool is_viewed(struct tree *tree, uint32_t slot)
{
	uint64_t newest = atomic_load_explicit(&tree->newest_view, memory_order_acquire);

	return newest && newest >= pool_blocks(tree->pool, slot)->birth;
}

bool tree_is_writable(struct tree *tree, uint32_t slot)
{
	return pool_dirty_epoch(tree->pool, slot) == tree->epoch;
}

bool tree_needs_copy(struct tree *tree, uint32_t slot)
{
	return is_frozen(tree, slot) || is_viewed(tree, slot);
}

bool tree_needs_place(struct tree *tree, uint32_t slot)
{
	return !is_listed(tree, slot);
}

static void set_dirty(struct tree *tree, uint64_t frame_id, uint32_t slot, bool was_listed)
{
	pool_set_dirty_epoch(tree->pool, slot, tree->epoch);
	pool_blocks(tree->pool, slot)->birth = tree->epoch;
	if (!was_listed)
		tree->host.dirtied(tree->host.ctx, frame_id);
}

/* The image in @slot, exclusively latched and leased, is no longer the live one; its
 * successor is not yet unlatched.  False: the slot is to be released. */
static bool leave_to_others(struct tree *tree, uint64_t frame_id, uint32_t slot)
{
	bool is_checkpoints = is_frozen(tree, slot);
	uint64_t birth = pool_blocks(tree->pool, slot)->birth;

	return (is_viewed(tree, slot) && tree->host.retain(tree->host.ctx, frame_id, slot, birth)) ||
	       is_checkpoints;
}

uint32_t tree_make_writable(struct tree *tree, uint64_t frame_id, uint32_t slot,
    struct tree_spares *spares)
{
	const void *image = tree_image(tree, slot);
	bool was_listed = is_listed(tree, slot), is_left;
	uint32_t copy;

	if (tree_is_writable(tree, slot))
		return slot;
	if (!tree_needs_copy(tree, slot)) {
		set_dirty(tree, frame_id, slot, was_listed);
		return slot;
	}
	copy = tree_take_spare(spares);
	pool_latch_exclusive(tree->pool, copy);
	memcpy(tree_image(tree, copy), image, from_le32(image_header_const(image)->heap_end));
	pool_replace(tree->pool, tree_key(frame_id), slot, copy);
	set_dirty(tree, frame_id, copy, was_listed);
	is_left = leave_to_others(tree, frame_id, slot);
	pool_unlatch_exclusive(tree->pool, slot);
	if (!is_left)
		pool_release(tree->pool, slot);
	atomic_fetch_add_explicit(&tree->counters.cow_copies, 1, memory_order_relaxed);
	return copy;
}

void tree_replace_frame(struct tree *tree, uint64_t frame_id, uint32_t slot, uint32_t new_slot)
{
	bool is_left;

	ASSERT_SLOW(is_in_order(tree_image(tree, new_slot)));
	tree_count_empty(tree, tree_is_empty_frame(tree, frame_id, tree_image(tree, slot)),
	    tree_is_empty_frame(tree, frame_id, tree_image(tree, new_slot)));
	pool_latch_exclusive(tree->pool, new_slot);
	pool_replace(tree->pool, tree_key(frame_id), slot, new_slot);
	set_dirty(tree, frame_id, new_slot, is_listed(tree, slot));
	is_left = leave_to_others(tree, frame_id, slot);
	pool_unlatch_exclusive(tree->pool, new_slot);
	pool_unlatch_exclusive(tree->pool, slot);
	if (!is_left)
		pool_release(tree->pool, slot);
}

void tree_publish_frame(struct tree *tree, uint64_t frame_id, uint32_t slot)
{
	ASSERT_SLOW(is_in_order(tree_image(tree, slot)));
	tree_count_empty(tree, false, tree_is_empty_frame(tree, frame_id, tree_image(tree, slot)));
	pool_latch_exclusive(tree->pool, slot);
	/* A reader that went astray may have loaded an older frame of this id, or be
	 * about to.  (Nobody waits for our slot: it is not known yet.) */
	while (pool_publish(tree->pool, tree_key(frame_id), slot) == -EEXIST) {
		uint32_t stale = pool_latch_key_exclusive(tree->pool, tree_key(frame_id));

		if (stale == POOL_NO_SLOT)
			continue;
		ASSERT(pool_dirty_epoch(tree->pool, stale) == 0);
		pool_withdraw(tree->pool, tree_key(frame_id), stale);
		pool_unlatch_exclusive(tree->pool, stale);
		pool_release(tree->pool, stale);
	}
	ASSERT(pool_is_owner(tree->pool, slot, tree_key(frame_id)));
	set_dirty(tree, frame_id, slot, false);
	pool_unlatch_exclusive(tree->pool, slot);
}

void tree_drop_frame(struct tree *tree, uint64_t frame_id, uint32_t slot)
{
	bool is_left;

	tree_count_empty(tree, tree_is_empty_frame(tree, frame_id, tree_image(tree, slot)), false);
	pool_withdraw(tree->pool, tree_key(frame_id), slot);
	is_left = leave_to_others(tree, frame_id, slot);
	pool_unlatch_exclusive(tree->pool, slot);
	tree->host.dropped(tree->host.ctx, frame_id);
	if (!is_left)
		pool_release(tree->pool, slot);
}

void tree_latch_two(struct tree *tree, uint64_t a, uint64_t b, uint32_t *ret_a, uint32_t *ret_b)
{
	if (a < b)
		*ret_a = pool_latch_key_exclusive(tree->pool, tree_key(a));
	*ret_b = pool_latch_key_exclusive(tree->pool, tree_key(b));
	if (a > b)
		*ret_a = pool_latch_key_exclusive(tree->pool, tree_key(a));
	if (a == b)
		*ret_a = *ret_b;
	ASSERT(*ret_a != POOL_NO_SLOT && *ret_b != POOL_NO_SLOT); /* both pinned */
}

int tree_plant(struct tree *tree, uint32_t slot)
{
	image_init(tree_image(tree, slot), tree->root_id);
	tree_publish_frame(tree, tree->root_id, slot);
	return 0;
}

/* ---- to and from disk ----------------------------------------------------------- */

uint32_t tree_frame_used_blocks(const void *image)
{
	return (uint32_t)div_up(from_le32(image_header_const(image)->heap_end), BLOCK_BYTES);
}

static uint64_t frame_seed(uint64_t frame_id, uint64_t uuid_seed)
{
	return uuid_seed ^ frame_id;
}

static uint32_t header_checksum(const struct frame_header *header, uint64_t seed)
{
	return checksum32(&header->magic, sizeof(*header) - offsetof(struct frame_header, magic), seed);
}

uint32_t tree_frame_seal(const void *image, struct frame_header *header, uint64_t lsn, uint64_t uuid_seed)
{
	uint64_t seed = frame_seed(from_le64(header->frame_id), uuid_seed);
	uint32_t used = tree_frame_used_blocks(image);
	uint32_t checksum;

	header->lsn = to_le64(lsn);
	header->used_blocks = to_le32(used);
	for (uint32_t block = 1; block < FRAME_BLOCKS; block++)
		header->block_checksums[block] = to_le32(block >= used ? 0 :
			checksum32((const char *)image + block * BLOCK_BYTES, BLOCK_BYTES, seed + block));
	checksum = header_checksum(header, seed);
	header->checksum = to_le32(checksum);
	return checksum;
}

int tree_frame_verify_header(const struct frame_header *header, uint64_t frame_id,
    uint32_t expected_checksum, uint32_t used_blocks, uint64_t uuid_seed)
{
	uint32_t heap_end = from_le32(header->heap_end);

	if (from_le32(header->magic) != TREE_FRAME_MAGIC ||
	    from_le64(header->frame_id) != frame_id ||
	    from_le32(header->checksum) != expected_checksum ||
	    header_checksum(header, frame_seed(frame_id, uuid_seed)) != expected_checksum ||
	    from_le32(header->used_blocks) != used_blocks || heap_end < FRAME_HEADER_BYTES ||
	    heap_end > FRAME_BYTES || tree_frame_used_blocks(header) != used_blocks)
		return -EUCLEAN;
	return 0;
}

int tree_frame_verify_block(const struct frame_header *header, uint32_t block, const void *bytes,
    uint64_t uuid_seed)
{
	uint64_t seed = frame_seed(from_le64(header->frame_id), uuid_seed) + block;

	return checksum32(bytes, BLOCK_BYTES, seed) == from_le32(header->block_checksums[block]) ?
		   0 : -EUCLEAN;
}

int tree_frame_verify(const void *image, uint64_t frame_id, uint32_t expected_checksum,
    uint32_t used_blocks, uint64_t uuid_seed, uint32_t *ret_block)
{
	int err = tree_frame_verify_header(image, frame_id, expected_checksum, used_blocks, uuid_seed);

	*ret_block = 0;
	for (uint32_t block = 1; block < used_blocks && !err; block++) {
		*ret_block = block;
		err = tree_frame_verify_block(image, block, (const char *)image + block * BLOCK_BYTES,
		    uuid_seed);
	}
	return err;
}
