/*
 * Frames on disk that share one below them: verified, and each for itself as it should be.
 *
 *     frame 1 --10--> frame 2 --10--> frame 3 --10--> ...        2^20 ways to the last
 *             --90-->         --90-->         --90-->
 *
 * A scan may deliver some items; then it says that this is damage, soon, and also where the
 * pool is smaller than a way is long, so that it begins again at the root all the time.
 *
 * tree_frame_verify() is wrapped: what it has found good is replaced.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>

#include "store/store.h"
#include "tests/support/support.h"
#include "tree/node.h"
#include "tree/tree.h"

#define VOLUME_BYTES (512ull << 20)
#define FRAMES	     40u /* of the chain */
#define FORKS	     20u
#define KEYS	     8000u
#define VALUE_BYTES  3000u

static uint64_t frame_ids[FRAMES];
static uint32_t frame_count;
static bool is_damaging;

int __real_tree_frame_verify(const void *image, uint64_t frame_id, uint32_t header_checksum,
    uint32_t used_blocks, uint64_t uuid_seed, uint32_t *ret_block);
int __wrap_tree_frame_verify(const void *image, uint64_t frame_id, uint32_t header_checksum,
    uint32_t used_blocks, uint64_t uuid_seed, uint32_t *ret_block);

static void add_to_root(void *image, uint8_t byte, node_ref child)
{
	node_ref root = from_le16(image_header(image)->root);

	root = inner_add(image, root, byte, byte, child);
	ck_assert_uint_ne(root, 0);
	image_header(image)->root = to_le16(root);
}

static void add_way(void *image, uint8_t byte, uint64_t frame_id)
{
	node_ref crossing = image_new_crossing(image, 0, UINT8_MAX, frame_id);
	node_ref node = image_new_inner(image, NODE_4, NULL, 0);

	add_to_root(image, byte, inner_add(image, node, 0, UINT8_MAX, crossing));
}

static void replace(void *image, uint32_t number)
{
	image_init(image, frame_ids[number]);
	if (number + 1 == FRAMES) {
		add_to_root(image, 0x20, image_new_leaf(image, (const uint8_t *)"", 0, "v", 1, 8));
		return;
	}
	add_way(image, 0x10, frame_ids[number + 1]);
	if (number < FORKS)
		add_way(image, 0x90, frame_ids[number + 1]);
}

int __wrap_tree_frame_verify(const void *image, uint64_t frame_id, uint32_t header_checksum,
    uint32_t used_blocks, uint64_t uuid_seed, uint32_t *ret_block)
{
	int err = __real_tree_frame_verify(image, frame_id, header_checksum, used_blocks, uuid_seed,
	    ret_block);

	for (uint32_t i = 0; i < FRAMES && is_damaging && !err; i++)
		if (frame_ids[i] == frame_id)
			replace((void *)image, i);
	return err;
}

/* The root is the first. */
static int note_frame(void *ctx, uint64_t frame_id, const struct manifest_place *place)
{
	struct store *store = ctx;

	if (place && frame_id != from_le64(store_superblock(store)->user_root) && frame_count < FRAMES)
		frame_ids[frame_count++] = frame_id;
	return 0;
}

static void make_volume(struct device *device)
{
	struct store_format_options format = {.uuid = {3}, .journal_bytes = 64 << 20};
	struct store_options options = {.cache_bytes = 128 << 20, .no_threads = true, .keep_device = true};
	static const uint8_t value[VALUE_BYTES];
	struct store *store;
	char key[16];

	ck_ok(store_format(device, &format));
	ck_ok(store_open(device, &options, &store));
	for (uint32_t i = 0; i < KEYS; i++)
		ck_ok(store_put(store, key, (uint32_t)sprintf(key, "%08x", i * 2654435761u), value,
		    sizeof(value), NULL, NULL));
	ck_ok(store_checkpoint(store));
	frame_ids[frame_count++] = from_le64(store_superblock(store)->user_root);
	ck_ok(manifest_for_each(store_space(store), note_frame, store));
	ck_assert_uint_eq(frame_count, FRAMES);
	ck_ok(store_close(store));
}

static int ignore(void *ctx, const struct store_item *item)
{
	return 0;
}

static void expect_damage(struct device *device, uint64_t cache_bytes)
{
	struct store_options options = {.cache_bytes = cache_bytes, .no_threads = true, .keep_device = true};
	struct store_counters counters;
	struct store *store;

	ck_ok(store_open(device, &options, &store));
	ck_assert_int_eq(store_visit(store, NULL, 0, ignore, NULL), -EUCLEAN);
	store_counters(store, &counters);
	ck_assert_uint_lt(counters.frame_loads, 20 * FRAMES);
	store_abandon(store);
}

START_TEST(a_scan_of_frames_that_share_one_says_so)
{
	struct device *device;

	support_log_to_stderr();
	ck_ok(device_open_memory(VOLUME_BYTES, &device));
	make_volume(device);
	is_damaging = true;
	expect_damage(device, 128 << 20);
	expect_damage(device, 8 << 20);
	device_close(device);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shared frames");
	TCase *tests = tcase_create("shared frames");

	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_scan_of_frames_that_share_one_says_so);
	suite_add_tcase(suite, tests);
	return support_run(suite);
}
