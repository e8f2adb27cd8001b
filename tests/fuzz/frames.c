/*
 * A store with frames that somebody else wrote, with good checksums and anything inside.
 *
 * Input: how many frames are damaged, for each which one and changes up to a byte 0xff, as
 * image.c has them; then calls.  Each answers what it has to or an error; nothing is read or
 * written outside of frames, no assertion fails, and everything comes to an end.
 *
 * tree_frame_verify() is wrapped: what it has found good is damaged then, so that checksums
 * need no repair.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "store/store.h"
#include "tests/fuzz/damage.h"
#include "tree/tree.h"

#define DISK_BYTES (32ull << 20)
#define CALLS_MAX 40
#define FRAMES_MAX 64
#define DAMAGED_MAX 4

static struct fuzz_disk disk;
static uint64_t frame_ids[FRAMES_MAX];
static uint32_t frame_count;
static uint64_t frozen_lsn;

/* What is done to a frame each time it is loaded, until it is written anew. */
static struct damaged_frame {
	uint64_t id;
	struct fuzz_input changes;
} damaged[DAMAGED_MAX];
static uint32_t damaged_count;

int __real_tree_frame_verify(const void *image, uint64_t frame_id, uint32_t header_checksum,
    uint32_t used_blocks, uint64_t uuid_seed, uint32_t *ret_block);
int __wrap_tree_frame_verify(const void *image, uint64_t frame_id, uint32_t header_checksum,
    uint32_t used_blocks, uint64_t uuid_seed, uint32_t *ret_block);

int __wrap_tree_frame_verify(const void *image, uint64_t frame_id, uint32_t header_checksum,
    uint32_t used_blocks, uint64_t uuid_seed, uint32_t *ret_block)
{
	const struct frame_header *header = image;
	int err = __real_tree_frame_verify(image, frame_id, header_checksum, used_blocks, uuid_seed,
	    ret_block);

	if (err || from_le64(header->lsn) > frozen_lsn)
		return err;
	for (uint32_t i = 0; i < damaged_count; i++) {
		struct fuzz_input changes = damaged[i].changes;

		if (damaged[i].id == frame_id)
			damage_image((void *)image, &changes);
	}
	/* The number of blocks is in the manifest as well. */
	return tree_frame_used_blocks(image) == used_blocks ? 0 : -EUCLEAN;
}

/* ---- the store -------------------------------------------------------------------------- */

static int note_frame(void *ctx, uint64_t frame_id, const struct manifest_place *place)
{
	if (frame_count < FRAMES_MAX)
		frame_ids[frame_count++] = frame_id;
	return 0;
}

static void load(struct store *store, const char *prefix, uint32_t count, uint32_t value_bytes)
{
	static const uint8_t value[2000];
	char key[64];

	for (uint32_t i = 0; i < count; i++) {
		int bytes = snprintf(key, sizeof(key), "%s%u/%c", prefix, i * 7919 % count, 'a' + i % 3);

		FUZZ_CHECK(store_put(store, key, (uint32_t)bytes, value, value_bytes, NULL, NULL) == 0);
	}
}

static void drop(struct store *store, const char *prefix)
{
	struct store_batch *batch;

	FUZZ_CHECK(store_batch_create(store, &batch) == 0);
	store_batch_drop_prefix(batch, prefix, (uint32_t)strlen(prefix));
	FUZZ_CHECK(store_commit(store, batch, NULL) == 0);
	store_batch_destroy(batch);
}

/* Frames below frames, nodes of all shapes, and keys that are still to be erased. */
static void make_disk(void)
{
	struct store *store;

	fuzz_store_format(&disk, DISK_BYTES);
	store = fuzz_store_open(&disk);
	FUZZ_CHECK(store);
	load(store, "a/", 900, 1000);
	load(store, "b/", 300, 8);
	load(store, "c/", 700, 2000);
	for (unsigned i = 0; i < 250; i++) {
		uint8_t key[3] = {'w', (uint8_t)i, (uint8_t)(i % 3)};

		FUZZ_CHECK(store_put(store, key, 1 + i % 3, key, i % 4, NULL, NULL) == 0);
	}
	drop(store, "c/");
	FUZZ_CHECK(store_checkpoint(store) == 0);
	FUZZ_CHECK(manifest_for_each(store_space(store), note_frame, NULL) == 0);
	FUZZ_CHECK(frame_count > 4);
	FUZZ_CHECK(store_close(store) == 0);
	frozen_lsn = from_le64(((const struct superblock *)disk.memory)->checkpoint_lsn);
	fuzz_disk_freeze(&disk);
}

/* ---- inputs ------------------------------------------------------------------------------- */

static void skip_changes(struct fuzz_input *input)
{
	while (fuzz_byte(input) != 0xff && input->left)
		;
}

static void choose_damage(struct fuzz_input *input)
{
	uint32_t count = fuzz_byte(input) % (DAMAGED_MAX + 1);

	for (damaged_count = 0; damaged_count < count && input->left; damaged_count++) {
		struct damaged_frame *frame = &damaged[damaged_count];

		frame->id = frame_ids[fuzz_byte(input) % frame_count];
		frame->changes = *input;
		skip_changes(input);
		/* Changes end there, also those that another byte would belong to. */
		frame->changes.left -= input->left;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct store *store;

	damaged_count = 0;
	if (disk.frozen)
		fuzz_disk_renew(&disk);
	else
		make_disk();
	choose_damage(&input);
	store = fuzz_store_open(&disk);
	if (!store)
		return 0;
	if (size % 2)
		fuzz_store_read(store);
	for (unsigned i = 0; i < CALLS_MAX && input.left; i++)
		fuzz_store_call(store, &input);
	fuzz_store_read(store);
	if (store_close(store))
		return 0;
	store = fuzz_store_open(&disk);
	if (store) {
		fuzz_store_read(store);
		store_abandon(store);
	}
	return 0;
}
