/*
 * Every block in use is named by exactly one thing, and everything names blocks that
 * are in use.
 *
 *	used = frames in the manifest + map pages + blocks of files
 *
 * This holds exactly for the live state of an open store at rest, also after the log
 * was replayed in memory: manifest, pages and the places of tree frames are those of
 * the last checkpoint, which stay in use until the next one is durable; frames that
 * changed since have no new place yet; blocks of files are used and freed as records
 * are applied, and the tree that names them is the live one.
 *
 * The named blocks are a set in memory.  Names are held against the space map as they
 * come, since then it is known who names; at the end the space map is held against the
 * set, which finds what is in use and not named.
 */
#include "config.h"

#include "check/check_internal.h"

#include <stdio.h>

/* ---- naming -------------------------------------------------------------------- */

static void describe_owner(const struct owner *owner, char *text, size_t bytes)
{
	switch (owner->kind) {
	case OWNER_FRAME:
		snprintf(text, bytes, "tree frame %llu", (ull)owner->number);
		break;
	case OWNER_MAP:
		snprintf(text, bytes, "a page of manifest or space map");
		break;
	case OWNER_FILE:
		snprintf(text, bytes, "%s (inode %llu) at offset %llu", owner->path,
		    (ull)owner->number, (ull)owner->offset);
		break;
	}
}

static void report_blocks(struct check *check, const struct owner *owner, uint64_t block,
    uint64_t count, const char *fault)
{
	char text[PATH_TEXT + 100];

	describe_owner(owner, text, sizeof(text));
	if (count == 1)
		report_damage(check, "%s: block %llu %s", text, (ull)block, fault);
	else
		report_damage(check, "%s: blocks %llu to %llu %s", text, (ull)block,
		    (ull)(block + count - 1), fault);
}

/* Not superblock, not journal, on the volume. */
static bool is_allocatable(const struct superblock *superblock, uint64_t block, uint64_t count)
{
	uint64_t end = from_le64(superblock->frame_count) * FRAME_BLOCKS;
	uint64_t journal = from_le64(superblock->journal_first_frame) * FRAME_BLOCKS;
	uint64_t journal_end = journal + from_le64(superblock->journal_frames) * FRAME_BLOCKS;

	if (block < FRAME_BLOCKS || block >= end || count > end - block)
		return false;
	return block >= journal_end || block + count <= journal;
}

/* The first run of blocks that are in use or not, as @wanted says. */
static uint32_t run_of(struct check *check, uint64_t block, uint32_t count, bool *ret_is_used)
{
	struct space *space = store_space(check->store);
	uint32_t n = 1;

	*ret_is_used = space_is_used(space, block, 1);
	while (n < count && space_is_used(space, block + n, 1) == *ret_is_used)
		n++;
	return n;
}

static void check_used(struct check *check, uint64_t block, uint32_t count, const struct owner *owner)
{
	bool is_used;

	if (space_is_used(store_space(check->store), block, count))
		return;
	for (uint32_t i = 0, n; i < count; i += n) {
		n = run_of(check, block + i, count - i, &is_used);
		if (!is_used)
			report_blocks(check, owner, block + i, n, "not in use in the space map");
	}
}

int name_blocks(struct check *check, uint64_t block, uint32_t count, const struct owner *owner,
    bool *ret_good)
{
	uint32_t twice = 0;
	int err = 0;

	*ret_good = is_allocatable(&check->superblock, block, count);
	if (!*ret_good) {
		report_blocks(check, owner, block, count, "outside of what may hold data");
		return 0;
	}
	check_used(check, block, count, owner);
	for (uint32_t i = 0; i < count && !err; i++) {
		bool was_named = false;

		err = number_set_add(&check->named, block + i, &was_named);
		if (was_named)
			twice++;
		if (twice && (!was_named || i + 1 == count)) {
			uint64_t end = block + i + was_named;

			report_blocks(check, owner, end - twice, twice, "used twice");
			twice = 0;
		}
	}
	return err;
}

static int name_frame(void *ctx, uint64_t frame_id, const struct manifest_place *place)
{
	struct owner owner = {.kind = OWNER_FRAME, .number = frame_id};
	bool is_good;

	return name_blocks(ctx, place->disk_frame * FRAME_BLOCKS, FRAME_BLOCKS, &owner, &is_good);
}

static int name_map_page(void *ctx, uint64_t block)
{
	struct owner owner = {.kind = OWNER_MAP};
	bool is_good;

	return name_blocks(ctx, block, 1, &owner, &is_good);
}

/* ---- what nobody names ------------------------------------------------------------ */

struct leak_walk {
	struct check *check;
	uint64_t block, count; /* run not yet told */
	uint64_t unnamed;
};

static void tell_leak(struct leak_walk *walk)
{
	struct check *check = walk->check;

	walk->unnamed += walk->count;
	if (walk->count && !check->is_naming_incomplete)
		report_leak(check, "blocks %llu to %llu: in use, and nothing names them",
		    (ull)walk->block, (ull)(walk->block + walk->count - 1));
	walk->count = 0;
}

static int hold_against_set(void *ctx, uint64_t block, uint64_t count)
{
	struct leak_walk *walk = ctx;

	for (uint64_t i = block; i < block + count; i++) {
		if (number_set_has(&walk->check->named, i))
			continue;
		if (walk->count && walk->block + walk->count == i) {
			walk->count++;
			continue;
		}
		tell_leak(walk);
		walk->block = i;
		walk->count = 1;
	}
	return 0;
}

int name_own_blocks(struct check *check)
{
	struct space *space = store_space(check->store);
	int err = manifest_for_each(space, name_frame, check);

	return err ? err : space_for_each_map_block(space, name_map_page, check);
}

int check_space(struct check *check)
{
	struct space *space = store_space(check->store);
	struct leak_walk walk = {.check = check};
	struct space_counters counters;
	int err;

	space_counters(space, &counters);
	check->totals.used_blocks = counters.used_blocks;
	if (check->options.is_store_only)
		return 0;
	err = space_for_each_used(space, hold_against_set, &walk);
	tell_leak(&walk);
	if (walk.unnamed && check->is_naming_incomplete)
		report_note(check, "%llu blocks in use are named by nothing that could be read",
		    (ull)walk.unnamed);
	return err;
}
