/*
 * Single keys of frames that are not in memory, where memory is short.
 *
 * A frame loaded whole for one key costs a hundred times what the key does, and pushes out
 * another.  So a get that misses a frame, while the pool is full, searches the image where
 * it lies on disk: it reads the blocks that the search comes to, verifies each against the
 * frame's header (whose own checksum is in the manifest), and keeps them.
 *
 *   slot of pieces (live in the pool as FRAME_PIECES n)       image, reserved
 *  +---------+----+----+----+---- - - ----+-----+            +-+-----+-+--- - - ---+
 *  | index   | 9:0| 2:7| 9:1|             |9:64 |  --copy--> | | ... | |  sparse   |
 *  +---------+----+----+----+---- - - ----+-----+            +-+-----+-+--- - - ---+
 *   which block of which frame each piece is                  the search goes on in here
 *
 * All blocks of a frame go to one slot, given by its id, so a frame is found by one look
 * at one index.  Slots of pieces are leased, evicted and found again like any other, and
 * are clean; when the pool takes one the blocks in it are gone.  Within a slot pieces are
 * replaced by a clock.
 *
 * A frame is loaded whole all the same where it is asked for much more than others are,
 * and where the search only passes through it: few frames are above others, and many
 * searches go through each.
 *
 * What was found is what the frame had at some moment of the get, for first it is looked
 * for in the pool, and only then the manifest is asked: a changed frame is not evicted
 * before the manifest names what was written of it, so the one not in the pool was what the
 * manifest said.  If the manifest said something else by the time it was asked, the frame
 * had been that meanwhile.  The edges that led here did not change all the while, or the
 * tree has another shape afterwards, and the search begins again.
 *
 * Nobody keeps a place from becoming another's while it is read.  What is read then does
 * not verify, and the manifest names another place: so a block that does not verify is
 * damage only if the manifest still says the same.
 *
 * Locks: the latch of the slot of pieces: shared while copying from it, exclusive while a
 * piece is put in; none while reading from the device.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECES (FRAME_BLOCKS - 1)

/* The first block of a slot of pieces.  Guarded by its latch, but for the atomics. */
struct piece_index {
	uint32_t names[PIECES];	  /* frame id and block; 0: free */
	uint32_t places[PIECES];  /* disk frame */
	uint32_t headers[PIECES]; /* the header's checksum */
	_Atomic uint8_t is_used[PIECES]; /* since the clock came by */
	uint8_t hand;
	/* A majority vote over the frames that gets end in (R. S. Boyer, J S. Moore, "MJRTY: a
	 * fast majority vote algorithm", 1981). */
	_Atomic uint32_t favourite, votes;
	_Atomic uint32_t since; /* cold gets of the store before the first of these votes */
};
_Static_assert(sizeof(struct piece_index) <= BLOCK_BYTES, "the index is one block");

/*
 * A frame is loaded whole after so many votes more than the others of its slot have
 * together, if it is so many times as much in use as frames are on average.  Without the
 * second condition a slot with few frames would elect one all the time, whose 512 KiB push
 * out the blocks of others; with it, all frames but the few hottest stay in pieces.
 */
#define VOTES_TO_LOAD 16u
#define TIMES_AVERAGE 8u

/* Slots that are not for pieces. */
#define OTHER_SLOTS_MIN 2u
#define OTHER_SLOTS_SHARE 16u

/* A node so near to the end of its block that what it leads to may lie in the next: both
 * are read. */
#define NEXT_BLOCK_FROM (BLOCK_BYTES / 4 * 3)

/* The search in one frame. */
struct visit {
	struct store *store;
	uint64_t frame_id;
	struct manifest_place place;
	char *image;
	uint32_t slot;		    /* of pieces, latched shared; POOL_NO_SLOT: not latched */
	uint8_t pieces[FRAME_BLOCKS]; /* there: piece + 1 of the block; 0: it is not */
	uint64_t present[2];	    /* blocks that were read to the image whole */
	uint32_t ahead;		    /* block read with the one before, not yet needed; 0: none */
	bool has_header;	    /* the image has the header, or can not have it */
	uint32_t bad_block;
};

void cold_init(struct store *store)
{
	uint32_t slots = pool_slot_count(store->pool);

	store->cold.slots = slots - max_of(slots / OTHER_SLOTS_SHARE, OTHER_SLOTS_MIN);
}

void cold_fini(struct store *store)
{
	for (unsigned i = 0; i < COLD_IMAGES; i++)
		free(atomic_load(&store->cold.images[i]));
}

bool cold_is_better(struct store *store, const struct tree_need *need)
{
	return need->kind == TREE_NEED_FRAME && !store->is_memory && pool_is_full(store->pool);
}

/* ---- memory for images ---------------------------------------------------------------- */

/* What is not touched takes no memory; what is, stays for the next. */
static char *take_image(struct cold *cold)
{
	for (unsigned i = 0; i < COLD_IMAGES; i++) {
		char *image = atomic_exchange(&cold->images[i], NULL);

		if (image)
			return image;
	}
	return aligned_alloc(BLOCK_BYTES, FRAME_BYTES);
}

static void return_image(struct cold *cold, char *image)
{
	for (unsigned i = 0; i < COLD_IMAGES; i++) {
		char *none = NULL;

		if (atomic_compare_exchange_strong(&cold->images[i], &none, image))
			return;
	}
	free(image);
}

/* ---- pieces ----------------------------------------------------------------------------- */

static uint32_t piece_name(uint64_t frame_id, uint32_t block)
{
	return (uint32_t)(frame_id * FRAME_BLOCKS + block);
}

static frame_key pieces_key(const struct visit *visit)
{
	return frame_key_make(FRAME_PIECES, visit->frame_id % visit->store->cold.slots);
}

static struct piece_index *index_of(const struct visit *visit, uint32_t slot)
{
	return pool_memory(visit->store->pool, slot);
}

static bool is_piece_of(const struct piece_index *index, unsigned piece, const struct visit *visit)
{
	return index->names[piece] / FRAME_BLOCKS == visit->frame_id &&
	       index->places[piece] == visit->place.disk_frame &&
	       index->headers[piece] == visit->place.header_checksum;
}

static bool latch_owner(struct pool *pool, frame_key key, void (*latch)(struct pool *, uint32_t),
    void (*unlatch)(struct pool *, uint32_t), uint32_t *ret_slot)
{
	uint32_t slot;

	while ((slot = pool_find(pool, key)) != POOL_NO_SLOT) {
		latch(pool, slot);
		if (pool_is_owner(pool, slot, key)) {
			pool_touch(pool, slot);
			*ret_slot = slot;
			return true;
		}
		unlatch(pool, slot);
	}
	return false;
}

/* False: there are no pieces of the frame's slot. */
static bool latch_pieces(struct visit *visit)
{
	const struct piece_index *index;

	if (visit->slot != POOL_NO_SLOT)
		return true;
	if (!latch_owner(visit->store->pool, pieces_key(visit), pool_latch_shared,
		pool_unlatch_shared, &visit->slot))
		return false;
	index = index_of(visit, visit->slot);
	memset(visit->pieces, 0, sizeof(visit->pieces));
	for (unsigned i = 0; i < PIECES; i++)
		if (is_piece_of(index, i, visit))
			visit->pieces[index->names[i] % FRAME_BLOCKS] = (uint8_t)(i + 1);
	return true;
}

static void unlatch_pieces(struct visit *visit)
{
	if (visit->slot != POOL_NO_SLOT)
		pool_unlatch_shared(visit->store->pool, visit->slot);
	visit->slot = POOL_NO_SLOT;
}

/* A slot for the pieces, latched exclusively.  False: none is to be had just now. */
static bool make_pieces(struct visit *visit, uint32_t *ret_slot)
{
	struct pool *pool = visit->store->pool;

	for (;;) {
		int err;

		if (latch_owner(pool, pieces_key(visit), pool_latch_exclusive,
			pool_unlatch_exclusive, ret_slot))
			return true;
		if (pool_lease(pool, ret_slot))
			return false;
		pool_latch_exclusive(pool, *ret_slot);
		memset(index_of(visit, *ret_slot), 0, sizeof(struct piece_index));
		err = pool_publish(pool, pieces_key(visit), *ret_slot);
		if (!err)
			return true;
		pool_unlatch_exclusive(pool, *ret_slot);
		pool_release(pool, *ret_slot);
		if (err != -EEXIST)
			return false;
	}
}

static unsigned choose_piece(struct piece_index *index)
{
	for (;;) {
		unsigned piece = index->hand;

		index->hand = (uint8_t)((piece + 1) % PIECES);
		if (!atomic_load_explicit(&index->is_used[piece], memory_order_relaxed))
			return piece;
		atomic_store_explicit(&index->is_used[piece], 0, memory_order_relaxed);
	}
}

/* Keeps blocks of the image for those who come after. */
static void keep_blocks(struct visit *visit, uint32_t first, uint32_t count)
{
	struct piece_index *index;
	uint32_t slot;

	if (!make_pieces(visit, &slot))
		return;
	index = index_of(visit, slot);
	/* Somebody may have been here before us; and what the frame was at another place is
	 * of no use. */
	for (unsigned i = 0; i < PIECES; i++)
		if (index->names[i] / FRAME_BLOCKS == visit->frame_id &&
		    (!is_piece_of(index, i, visit) || index->names[i] % FRAME_BLOCKS - first < count))
			index->names[i] = 0;
	for (uint32_t block = first; block < first + count; block++) {
		unsigned piece = choose_piece(index);

		index->names[piece] = piece_name(visit->frame_id, block);
		index->places[piece] = (uint32_t)visit->place.disk_frame;
		index->headers[piece] = visit->place.header_checksum;
		memcpy((char *)index + (piece + 1) * BLOCK_BYTES, visit->image + block * BLOCK_BYTES,
		    BLOCK_BYTES);
	}
	pool_unlatch_exclusive(visit->store->pool, slot);
}

static uint32_t cold_gets_so_far(struct store *store)
{
	return (uint32_t)atomic_load_explicit(&store->stats.cold_gets, memory_order_relaxed);
}

static void begin_vote(struct visit *visit, struct piece_index *index)
{
	atomic_store_explicit(&index->votes, 0, memory_order_relaxed);
	atomic_store_explicit(&index->since, cold_gets_so_far(visit->store), memory_order_relaxed);
	atomic_store_explicit(&index->favourite, (uint32_t)visit->frame_id, memory_order_relaxed);
}

/* A get has ended in the frame. */
static void vote(struct visit *visit)
{
	uint32_t frame_id = (uint32_t)visit->frame_id;
	struct piece_index *index;

	if (!latch_pieces(visit))
		return;
	index = index_of(visit, visit->slot);
	/* Lost votes do no harm. */
	if (atomic_load_explicit(&index->favourite, memory_order_relaxed) == frame_id)
		atomic_fetch_add_explicit(&index->votes, 1, memory_order_relaxed);
	else if (atomic_load_explicit(&index->votes, memory_order_relaxed))
		atomic_fetch_sub_explicit(&index->votes, 1, memory_order_relaxed);
	else
		begin_vote(visit, index);
}

/* Is it time to load the frame whole?  The vote begins anew then, and if it took too long. */
static bool is_elected(struct visit *visit)
{
	uint64_t frames = store_tree_frames(visit->store);
	struct piece_index *index;
	uint32_t gets;

	if (!latch_pieces(visit))
		return false;
	index = index_of(visit, visit->slot);
	if (atomic_load_explicit(&index->favourite, memory_order_relaxed) != visit->frame_id ||
	    atomic_load_explicit(&index->votes, memory_order_relaxed) < VOTES_TO_LOAD)
		return false;
	gets = cold_gets_so_far(visit->store) - atomic_load_explicit(&index->since, memory_order_relaxed);
	begin_vote(visit, index);
	return gets < VOTES_TO_LOAD * max_of(frames / TIMES_AVERAGE, 1ull);
}

/* ---- fetching ------------------------------------------------------------------------------ */

static bool is_present(const struct visit *visit, uint32_t block)
{
	return visit->present[block / 64] >> block % 64 & 1;
}

static int verify_block(struct visit *visit, uint32_t block)
{
	const void *header = visit->image;
	uint64_t seed = visit->store->uuid_seed;

	visit->bad_block = block;
	if (block == 0)
		return tree_frame_verify_header(header, visit->frame_id,
		    visit->place.header_checksum, visit->place.used_blocks, seed);
	return tree_frame_verify_block(header, block, visit->image + block * BLOCK_BYTES, seed);
}

/*
 * Nothing is latched.  All but a block read ahead are kept, which comes last and does not
 * matter yet.  -EUCLEAN: bad_block does not verify.
 */
static int read_blocks(struct visit *visit, uint32_t first, uint32_t count)
{
	uint32_t kept = count - (visit->ahead != 0);
	int err = device_read(visit->store->device, visit->image + first * BLOCK_BYTES,
	    count * BLOCK_BYTES, visit->place.disk_frame * FRAME_BYTES + first * BLOCK_BYTES);

	for (uint32_t block = first; block < first + count && !err; block++) {
		err = verify_block(visit, block);
		if (!err)
			visit->present[block / 64] |= BIT(block % 64);
		else if (block - first >= kept)
			err = 0;
	}
	if (!err)
		keep_blocks(visit, first, kept);
	return err;
}

/* Copies the part of a block that is wanted; false: the block is not at hand. */
static bool copy_piece(struct visit *visit, uint32_t block, uint32_t offset, uint32_t bytes)
{
	struct piece_index *index;
	unsigned piece;

	if (!latch_pieces(visit) || !visit->pieces[block])
		return false;
	index = index_of(visit, visit->slot);
	piece = visit->pieces[block];
	memcpy(visit->image + offset, (char *)index + piece * BLOCK_BYTES + offset % BLOCK_BYTES, bytes);
	/* A look before the store: the line is others' too. */
	if (!atomic_load_explicit(&index->is_used[piece - 1], memory_order_relaxed))
		atomic_store_explicit(&index->is_used[piece - 1], 1, memory_order_relaxed);
	return true;
}

/* The checksums of the other blocks. */
static int fetch_header(struct visit *visit)
{
	bool is_there = visit->has_header || is_present(visit, 0) ||
			copy_piece(visit, 0, 0, offsetof(struct frame_header, reserved2));

	visit->has_header = true;
	if (is_there)
		return 0;
	unlatch_pieces(visit);
	return read_blocks(visit, 0, 1);
}

/*
 * The blocks from @block on that are lacking, up to the one with the byte before @end; or
 * the one behind it too, where the search is likely to go on there.
 */
static int read_lacking(struct visit *visit, uint32_t block, uint32_t offset, uint32_t end)
{
	uint32_t last = (end - 1) / BLOCK_BYTES, next = block + 1;
	bool is_known = latch_pieces(visit);
	bool is_near_end = last == block && offset % BLOCK_BYTES >= NEXT_BLOCK_FROM &&
			   next < visit->place.used_blocks;
	int err = 0;

	visit->ahead = 0;
	last += is_near_end;
	while (next <= last && !is_present(visit, next) && !(is_known && visit->pieces[next]))
		next++;
	if (block > 0)
		err = fetch_header(visit);
	unlatch_pieces(visit);
	visit->ahead = is_near_end && next > block + 1 ? block + 1 : 0;
	return err ? err : read_blocks(visit, block, next - block);
}

/* A block of the image is needed.  True: it is there. */
static bool has_block(struct visit *visit, uint32_t block)
{
	if (!is_present(visit, block))
		return false;
	if (block == visit->ahead) {
		visit->ahead = 0;
		unlatch_pieces(visit);
		keep_blocks(visit, block, 1);
	}
	return true;
}

static int fetch(void *ctx, uint32_t offset, uint32_t bytes)
{
	struct visit *visit = ctx;
	uint32_t end = offset + bytes;
	int err = 0;

	while (offset < end && !err) {
		uint32_t block = offset / BLOCK_BYTES;
		uint32_t part = min_of(end, (block + 1) * BLOCK_BYTES) - offset;

		if (!has_block(visit, block) && !copy_piece(visit, block, offset, part))
			err = read_lacking(visit, block, offset, end);
		offset += part;
	}
	return err;
}

/* ---- one frame -------------------------------------------------------------------------------- */

static bool is_in_pool(const struct visit *visit)
{
	frame_key key = frame_key_make(FRAME_TREE, visit->frame_id);

	return pool_find(visit->store->pool, key) != POOL_NO_SLOT;
}

static bool is_same_place(const struct visit *visit)
{
	struct manifest_place now;

	manifest_get(visit->store->space, visit->frame_id, &now);
	return now.disk_frame == visit->place.disk_frame &&
	       now.header_checksum == visit->place.header_checksum;
}

static int visit_frame(struct visit *visit, struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    void *value, uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version,
    const struct tree_need *need)
{
	struct image_source source = {
	    .ctx = visit, .end = visit->place.used_blocks * BLOCK_BYTES, .fetch = fetch};
	struct image_path path;
	int err = image_probe(visit->image, &source, key, key_bytes, need->depth, &path);

	if (err) {
		/* The place may have become another's. */
		if (!is_same_place(visit))
			return -ESTALE;
		store_report_read(visit->frame_id, &visit->place, visit->bad_block, err);
		return err;
	}
	/* The way to other frames is of use to many; and what is damaged is dealt with in
	 * memory. */
	if (path.result == IMAGE_CROSSING || path.result == IMAGE_DAMAGED)
		return -EAGAIN;
	err = tree_copy_found(visit->image, &path, value, capacity, ret_bytes, ret_version);
	vote(visit);
	if (!tree_need_holds(tree, need))
		return -ESTALE;
	atomic_fetch_add_explicit(&visit->store->stats.cold_gets, 1, memory_order_relaxed);
	return err;
}

int cold_get(struct store *store, struct tree *tree, const uint8_t *key, uint32_t key_bytes, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version, const struct tree_need *need)
{
	struct visit visit = {.store = store, .frame_id = need->frame_id, .slot = POOL_NO_SLOT};
	int err = -EAGAIN;

	if (is_in_pool(&visit))
		return -ESTALE;
	manifest_get(store->space, visit.frame_id, &visit.place);
	/* Loading it says what that means. */
	if (!visit.place.disk_frame || visit.place.used_blocks < 2)
		return -EAGAIN;
	visit.image = take_image(&store->cold);
	if (!visit.image)
		return -EAGAIN;
	if (!is_elected(&visit))
		err = visit_frame(&visit, tree, key, key_bytes, value, capacity, ret_bytes, ret_version,
		    need);
	unlatch_pieces(&visit);
	return_image(&store->cold, visit.image);
	return err;
}
