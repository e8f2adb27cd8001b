/*
 * What the files of core/space share.  Function names ending _locked: the caller
 * holds space->lock.
 *
 *   open.c        open and close
 *   space.c       states of blocks, counters
 *   alloc.c       index of frames by free blocks; who gets which
 *   promise.c     who may have how much; promises
 *   page_map.c    the pages that the maps are saved in
 *   manifest.c    frame id -> place
 *   checkpoint.c  freeze, write, thaw
 *   walk.c        walks over blocks in use, trim
 */
#ifndef HOLTFS_SPACE_SPACE_INTERNAL_H
#define HOLTFS_SPACE_SPACE_INTERNAL_H

#include "base/assert.h"
#include "base/lock.h"
#include "space/page_map.h"
#include "space/space.h"

/* ---- the blocks of a frame, a bit each ---------------------------------- */

_Static_assert(FRAME_BLOCKS == 128, "two words a frame");

struct bits {
	uint64_t word[2];
};

#define BITS_ALL ((struct bits){{UINT64_MAX, UINT64_MAX}})

static inline struct bits bits_and(struct bits a, struct bits b)
{
	return (struct bits){{a.word[0] & b.word[0], a.word[1] & b.word[1]}};
}

static inline struct bits bits_or(struct bits a, struct bits b)
{
	return (struct bits){{a.word[0] | b.word[0], a.word[1] | b.word[1]}};
}

static inline struct bits bits_not(struct bits a)
{
	return (struct bits){{~a.word[0], ~a.word[1]}};
}

static inline struct bits bits_without(struct bits a, struct bits b)
{
	return bits_and(a, bits_not(b));
}

static inline bool bits_is_zero(struct bits a)
{
	return (a.word[0] | a.word[1]) == 0;
}

static inline unsigned bits_count(struct bits a)
{
	return (unsigned)(__builtin_popcountll(a.word[0]) + __builtin_popcountll(a.word[1]));
}

/* The first bit at or after @from that is set; FRAME_BLOCKS: none. */
static inline unsigned bits_find(struct bits a, unsigned from)
{
	for (unsigned w = from / 64; w < 2; w++) {
		uint64_t wanted = w == from / 64 ? UINT64_MAX << (from % 64) : UINT64_MAX;
		uint64_t word = a.word[w] & wanted;

		if (word)
			return w * 64 + (unsigned)__builtin_ctzll(word);
	}
	return FRAME_BLOCKS;
}

static inline uint64_t bits_below(unsigned count)
{
	return count >= 64 ? UINT64_MAX : (1ull << count) - 1;
}

/* @count bits from @first; both may be what they like up to FRAME_BLOCKS. */
static inline struct bits bits_run(unsigned first, unsigned count)
{
	unsigned end = first + count;
	struct bits below_end = {{bits_below(end), end > 64 ? bits_below(end - 64) : 0}};
	struct bits below_first = {{bits_below(first), first > 64 ? bits_below(first - 64) : 0}};

	return bits_without(below_end, below_first);
}

/* ---- a group: the frames of one leaf of the space map ------------------- */

#define GROUP_FRAMES MAP_PAGE_ENTRIES
#define NO_GROUP UINT32_MAX
#define FREE_OF_MAP_FRAME 255 /* in group.free: the frame is home to map pages */

struct group_bits {
	struct bits frame[GROUP_FRAMES];
	uint32_t count; /* of bits set */
};

struct group {
	struct map_node *leaf; /* the bits of blocks in use */
	uint32_t number;
	/* Each NULL while no bit is set; a block is in at most one of used, allocated
	 * and resting.  Guarded blocks are allocated as well. */
	struct group_bits *allocated;
	struct group_bits *guarded;
	struct group_bits *resting[2];
	/* Index (alloc.c). */
	uint32_t next, previous; /* groups with the same best */
	uint8_t best;	     /* most free blocks of a frame that is not wholly free */
	uint8_t free_frames; /* wholly free */
	uint8_t free[GROUP_FRAMES]; /* free blocks, or FREE_OF_MAP_FRAME */
};

/* A home of map pages: no other allocation goes there. */
struct map_frame {
	uint64_t frame;
	uint32_t free;
};

/* A change of the checkpoint under way, to take back if it fails. */
enum frozen_kind { FROZEN_USE, FROZEN_FREE, FROZEN_KEEP };

struct frozen_change {
	uint64_t block;
	uint32_t count;
	enum frozen_kind kind;
};

struct manifest_change {
	uint64_t frame_id;
	struct manifest_entry old;
};

/* Frames indexed by free blocks; see alloc.c. */
struct frame_index {
	uint32_t bucket[FRAME_BLOCKS]; /* first group with this best */
	struct bits filled;	       /* buckets that are not empty */
	uint64_t *free_groups;	       /* a bit per group with a wholly free frame */
	uint32_t lowest;	       /* no bit below this word of free_groups */
	uint64_t free_frames;	       /* wholly free, of all groups */
	uint64_t partial_free;	       /* free blocks of frames not wholly free */
	struct map_frame *map_frames;
	uint32_t map_frame_count, map_frame_room;
	uint64_t map_free; /* free blocks of map frames */
};

/* Where the next data block goes: a run that was free when it was picked. */
struct open_run {
	uint64_t frame;
	unsigned next, end; /* blocks within the frame */
};

struct space {
	struct device *device;	    /* set at open */
	struct space_layout layout; /* set at open */
	uint32_t group_count;	    /* set at open */

	struct mutex lock; /* guards all below */
	struct page_map space_map;
	struct page_map manifest;
	struct group **groups; /* NULL: all its frames are free */
	struct frame_index index;
	struct open_run data_run, tree_run;
	uint64_t map_frame; /* takes the next map page; 0: none */

	uint64_t used_blocks, allocated_blocks, resting_blocks;
	uint64_t map_resting_blocks; /* of these, old map pages */
	uint64_t reserved[2];	     /* blocks, by enum space_user */
	bool is_guard_incomplete;    /* out of memory while guarding: allocate nothing */

	/* Frees go to resting[young]; the checkpoint under way releases the other. */
	unsigned young;
	int checkpoint_error; /* of manifest_set(), told by write_maps */
	struct frozen_change *changes;
	uint64_t change_count, change_room;
	struct manifest_change *manifest_changes;
	uint64_t manifest_change_count, manifest_change_room;
};

/* A run of blocks, frame by frame. */
struct run_part {
	uint64_t block, count; /* what is left */
	uint32_t group;
	unsigned slot; /* of the frame in its group */
	struct bits mask;
	unsigned blocks; /* in mask */
};

static inline struct run_part part_of(uint64_t block, uint64_t count)
{
	return (struct run_part){.block = block, .count = count};
}

/* while (part_next(&part)) ... */
static inline bool part_next(struct run_part *part)
{
	unsigned first = (unsigned)(part->block % FRAME_BLOCKS);
	uint64_t frame = part->block / FRAME_BLOCKS;

	if (part->count == 0)
		return false;
	part->blocks = (unsigned)min_of(part->count, (uint64_t)(FRAME_BLOCKS - first));
	part->mask = bits_run(first, part->blocks);
	part->group = (uint32_t)(frame / GROUP_FRAMES);
	part->slot = (unsigned)(frame % GROUP_FRAMES);
	part->block += part->blocks;
	part->count -= part->blocks;
	return true;
}

/* ---- space.c -------------------------------------------------------------- */

struct bits entries_used(const union map_entries *entries, unsigned slot);
void entries_set(union map_entries *entries, unsigned slot, struct bits mask, bool is_used);

struct bits group_used(const struct group *group, unsigned slot);
struct bits group_free(const struct group *group, unsigned slot);

static inline struct bits group_get(const struct group_bits *bits, unsigned slot)
{
	return bits ? bits->frame[slot] : (struct bits){};
}

void group_set(struct group_bits *bits, unsigned slot, struct bits mask);
void group_clear(struct group_bits *bits, unsigned slot, struct bits mask);

/* Frames of the group that are on the volume. */
uint32_t group_frames(const struct space *space, uint32_t number);

/* The group, made if need be; NULL: out of memory. */
struct group *group_make_locked(struct space *space, uint32_t number);

void group_destroy(struct group *group);

/* Forgets a group that nothing need be remembered of. */
void group_drop_locked(struct space *space, struct group *group);

/* *bits made if need be. */
int group_bits_make(struct group_bits **bits);

/* Marks free blocks of one frame as allocated: -ENOMEM. */
int space_take_locked(struct space *space, uint64_t block, unsigned count);
void space_give_back_locked(struct space *space, uint64_t block, uint64_t count);

/* The run is one that layout_has_run() accepts, or of superblock and journal. */
bool space_run_is_used_locked(const struct space *space, uint64_t block, uint64_t count);

/* Use and free of any blocks, in the live state, or with @is_frozen in the image too. */
int space_use_locked(struct space *space, uint64_t block, uint64_t count, bool is_frozen);
/* Used blocks that are free in the image become allocated; in a checkpoint. */
int space_keep_locked(struct space *space, uint64_t block, uint64_t count);
int space_free_locked(struct space *space, uint64_t block, uint64_t count, bool is_frozen);

/*
 * Undoes a change of a checkpoint that failed.  What it used becomes allocated, for
 * good: a superblock that names it may have reached the disk.
 */
void space_take_back_locked(struct space *space, const struct frozen_change *change);

/* ---- alloc.c -------------------------------------------------------------- */

int index_init(struct space *space);
void index_fini(struct space *space);

/* After any change of the frame's bits. */
void index_update_locked(struct space *space, struct group *group, unsigned slot);

/* From now on the frame holds map pages and nothing new of others. */
int index_add_map_frame_locked(struct space *space, uint64_t frame);

/* A block for a map page, allocated.  Takes what is kept from all others. */
int alloc_map_block_locked(struct space *space, uint64_t *ret_block);

/* ---- promise.c ------------------------------------------------------------ */

/* Frames that @user may take now. */
uint64_t frames_for_locked(const struct space *space, enum space_user user);

/* Is there one that a promise to data may be redeemed from at the last? */
bool has_promised_frame_locked(const struct space *space);

/* Blocks that may go to data that was promised nothing. */
uint64_t unpromised_locked(const struct space *space);

/* Wholly free frames that nobody would miss for a moment. */
uint64_t frames_to_spare_locked(const struct space *space);

/* What statfs calls available. */
uint64_t data_available_locked(const struct space *space);

/* ---- manifest.c ------------------------------------------------------------ */

/* Entries are well formed and on the volume; -EUCLEAN. */
int manifest_verify(struct space *space);
void manifest_take_back_locked(struct space *space);

/* Array growth: room for one more element. */
int array_grow(void **array, uint64_t count, uint64_t *room, size_t element_bytes);

#endif
