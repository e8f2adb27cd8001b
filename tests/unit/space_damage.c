/* Damaged, stale and foreign pages, and devices that fail. */
#include "config.h"

#include "tests/unit/space_volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/log.h"
#include "device/device_test.h"

static char last_line[1024];

static void keep_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	if (level == LOG_LEVEL_ERROR)
		snprintf(last_line, sizeof(last_line), "%s", line);
}

static void read_page(struct volume *v, uint64_t block, struct map_page *page)
{
	void *data = aligned_alloc(DEVICE_ALIGN, BLOCK_BYTES);

	ck_ok(device_read(v->device, data, BLOCK_BYTES, block * BLOCK_BYTES));
	memcpy(page, data, BLOCK_BYTES);
	free(data);
}

static void write_page(struct volume *v, uint64_t block, const struct map_page *page)
{
	void *data = aligned_alloc(DEVICE_ALIGN, BLOCK_BYTES);

	memcpy(data, page, BLOCK_BYTES);
	ck_ok(device_write(v->device, data, BLOCK_BYTES, block * BLOCK_BYTES));
	free(data);
}

/* A volume with two leaves in either map. */
static void open_for_damage(struct volume *v)
{
	volume_open(v, 254 * 4);
	ck_ok(space_use(v->space, 300 * FRAME_BLOCKS, 5));
	space_freeze(v->space);
	manifest_set(v->space, 1, &(struct manifest_place){9, 1, 1});
	manifest_set(v->space, 600, &(struct manifest_place){10, 1, 1});
	ck_ok(volume_write_maps(v));
	volume_thaw(v, true);
	log_set_sink(keep_line, NULL);
	ck_ok(volume_try_open(v));
}

static void expect_damage(struct volume *v, const char *map, const char *page, uint64_t block)
{
	char number[32];

	last_line[0] = 0;
	ck_assert_int_eq(volume_try_open(v), -EUCLEAN);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)block);
	ck_assert_msg(strstr(last_line, map) && strstr(last_line, page) &&
			  strstr(last_line, number),
	    "%s (wanted %s, %s, %s)", last_line, map, page, number);
}

static uint64_t child(struct volume *v, uint64_t block, unsigned i)
{
	struct map_page page;

	read_page(v, block, &page);
	return from_le64(page.pointers[i].block);
}

START_TEST(damage_of_every_kind_of_page_is_found_and_named)
{
	const char *maps[2] = {"space map", "manifest"};
	struct volume v;

	open_for_damage(&v);
	for (int i = 0; i < 2; i++) {
		const struct map_root *root = i ? &v.superblock.manifest : &v.superblock.space;
		uint64_t blocks[3];

		blocks[2] = from_le64(root->block);
		blocks[1] = child(&v, blocks[2], 0);
		blocks[0] = child(&v, blocks[1], i ? 2 : 1);
		for (int level = 0; level < 3; level++) {
			const char *pages[2][3] = {
			    {"leaf page 1", "middle page 0", "root page 0"},
			    {"leaf page 2", "middle page 0", "root page 0"},
			};

			for (unsigned byte = 0; byte < BLOCK_BYTES; byte += 97) {
				uint64_t offset = blocks[level] * BLOCK_BYTES + byte;

				ck_ok(device_flip_bit(v.device, offset, byte % 8));
				expect_damage(&v, maps[i], pages[i][level], blocks[level]);
				ck_ok(device_flip_bit(v.device, offset, byte % 8));
			}
		}
	}
	ck_ok(volume_try_open(&v));
	volume_close(&v);
}
END_TEST

START_TEST(old_and_foreign_pages_are_not_taken)
{
	struct map_page old_root, new_root, leaf;
	uint64_t old_block, new_block, middle;
	struct superblock good;
	struct volume v;

	open_for_damage(&v);
	good = v.superblock;
	old_block = from_le64(v.superblock.space.block);
	read_page(&v, old_block, &old_root);
	volume_used_run(&v, 1);
	volume_checkpoint(&v);
	new_block = from_le64(v.superblock.space.block);
	read_page(&v, new_block, &new_root);

	/* An older page of the same place, a page of another, another volume's. */
	write_page(&v, new_block, &old_root);
	expect_damage(&v, "space map", "root page 0", new_block);
	middle = from_le64(new_root.pointers[0].block);
	read_page(&v, child(&v, middle, 0), &leaf);
	write_page(&v, new_block, &leaf);
	expect_damage(&v, "space map", "root page 0", new_block);
	write_page(&v, new_block, &new_root);
	ck_ok(volume_try_open(&v));
	v.superblock.uuid[3] ^= 1;
	expect_damage(&v, "space map", "root page 0", new_block);
	v.superblock.uuid[3] ^= 1;
	v.superblock.space = v.superblock.manifest;
	expect_damage(&v, "space map", "root page 0", from_le64(v.superblock.manifest.block));
	v.superblock.space = good.space;
	v.superblock.space.block = to_le64(new_block);
	expect_damage(&v, "space map", "root page 0", new_block);
	volume_close(&v);
}
END_TEST

/* The pages from a root to a leaf, to be changed and given right checksums. */
struct forgery {
	struct map_page page[3];
	uint64_t block[3];
};

static void read_path(struct volume *v, const struct map_root *root,
    unsigned leaf, struct forgery *f)
{
	f->block[2] = from_le64(root->block);
	read_page(v, f->block[2], &f->page[2]);
	f->block[1] = from_le64(f->page[2].pointers[0].block);
	read_page(v, f->block[1], &f->page[1]);
	f->block[0] = from_le64(f->page[1].pointers[leaf].block);
	read_page(v, f->block[0], &f->page[0]);
}

static le32 seal(struct volume *v, struct map_page *page, uint64_t block)
{
	page->checksum = to_le32(checksum32((char *)page + 4, BLOCK_BYTES - 4,
	    uuid_seed(v->superblock.uuid) ^ block));
	write_page(v, block, page);
	return page->checksum;
}

static void write_path(struct volume *v, struct map_root *root, unsigned leaf, struct forgery *f)
{
	f->page[1].pointers[leaf].checksum = seal(v, &f->page[0], f->block[0]);
	f->page[2].pointers[0].checksum = seal(v, &f->page[1], f->block[1]);
	root->checksum = seal(v, &f->page[2], f->block[2]);
}

START_TEST(page_found_at_another_block_is_damage)
{
	struct forgery f;
	struct volume v;

	open_for_damage(&v);
	read_path(&v, &v.superblock.space, 1, &f);
	write_page(&v, 900 * FRAME_BLOCKS, &f.page[2]);
	v.superblock.space.block = to_le64(900 * FRAME_BLOCKS);
	expect_damage(&v, "space map", "root page 0", 900 * FRAME_BLOCKS);
	volume_close(&v);
}
END_TEST

START_TEST(well_summed_nonsense_is_damage)
{
	const uint64_t outside[] = {1, FIRST_BLOCK - 1, 254 * 4 * FRAME_BLOCKS, UINT64_MAX};
	struct map_root *root;
	struct forgery good, f;
	struct volume v;

	open_for_damage(&v);
	root = &v.superblock.space;
	read_path(&v, root, 1, &good);
	f = good;
	f.page[0].first_index = to_le64(2 * 254);
	write_path(&v, root, 1, &f);
	expect_damage(&v, "space map", "leaf page 1", f.block[0]);
	f = good;
	f.page[0].level = 1;
	write_path(&v, root, 1, &f);
	expect_damage(&v, "space map", "leaf page 1", f.block[0]);
	f = good;
	f.page[0].kind = MAP_MANIFEST;
	write_path(&v, root, 1, &f);
	expect_damage(&v, "space map", "leaf page 1", f.block[0]);
	for (unsigned i = 0; i < ARRAY_COUNT(outside); i++) {
		f = good;
		f.page[1].pointers[2].block = to_le64(outside[i]);
		write_path(&v, root, 1, &f);
		expect_damage(&v, "space map", "middle page 0", f.block[1]);
	}
	/* A leaf that the volume is too small for. */
	f = good;
	f.page[1].pointers[9] = f.page[1].pointers[1];
	write_path(&v, root, 1, &f);
	expect_damage(&v, "space map", "middle page 0", f.block[1]);
	write_path(&v, root, 1, &good);
	ck_ok(volume_try_open(&v));
	volume_close(&v);
}
END_TEST

START_TEST(maps_that_contradict_the_volume_are_damage)
{
	struct map_root *root;
	struct forgery good, f;
	struct volume v;

	open_for_damage(&v);
	root = &v.superblock.space;
	read_path(&v, root, 0, &good);
	/* Superblock and journal are not free, nor is a page of the maps. */
	for (unsigned frame = 0; frame <= FIRST_FRAME; frame++) {
		f = good;
		f.page[0].space[frame].used[0] = to_le64(0);
		write_path(&v, root, 0, &f);
		ck_assert_int_eq(volume_try_open(&v), -EUCLEAN);
	}
	write_path(&v, root, 0, &good);
	root = &v.superblock.manifest;
	read_path(&v, root, 0, &good);
	f = good;
	f.page[0].manifest[1].disk_frame = to_le64(v.frames);
	write_path(&v, root, 0, &f);
	expect_damage(&v, "manifest", "leaf page 0", f.block[0]);
	f = good;
	f.page[0].manifest[1].used_blocks = to_le32(129);
	write_path(&v, root, 0, &f);
	expect_damage(&v, "manifest", "leaf page 0", f.block[0]);
	write_path(&v, root, 0, &good);
	ck_ok(volume_try_open(&v));
	volume_close(&v);
}
END_TEST

START_TEST(roots_outside_the_volume_are_damage)
{
	uint64_t bad[] = {1, FIRST_BLOCK - 1, 254 * 4 * FRAME_BLOCKS, UINT64_MAX};
	struct superblock good;
	struct volume v;

	open_for_damage(&v);
	good = v.superblock;
	for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
		v.superblock.space.block = to_le64(bad[i]);
		expect_damage(&v, "space map", "root page 0", bad[i]);
		v.superblock = good;
		v.superblock.manifest.block = to_le64(bad[i]);
		expect_damage(&v, "manifest", "root page 0", bad[i]);
		v.superblock = good;
	}
	/* An empty space map has no superblock frame in use. */
	v.superblock.space = (struct map_root){};
	ck_assert_int_eq(volume_try_open(&v), -EUCLEAN);
	v.superblock = good;
	v.superblock.frame_count = to_le64(v.frames + 1);
	ck_assert_int_eq(volume_try_open(&v), -EUCLEAN);
	/* One frame less: bits past the end. */
	v.superblock = good;
	ck_ok(space_use(v.space, (v.frames - 1) * FRAME_BLOCKS, 1));
	volume_checkpoint(&v);
	v.superblock.frame_count = to_le64(v.frames - 1);
	ck_assert_int_eq(volume_try_open(&v), -EUCLEAN);
	volume_close(&v);
}
END_TEST

START_TEST(manifest_refuses_places_outside_the_volume)
{
	const struct manifest_place bad[] = {
	    {1, 1, 1}, {40, 1, 1}, {UINT64_MAX, 1, 1}, {20, 1, 0}, {20, 1, 129},
	};
	struct manifest_place got;
	struct volume v;

	volume_open(&v, 40);
	for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
		space_freeze(v.space);
		manifest_set(v.space, 3, &bad[i]);
		ck_assert_int_eq(volume_write_maps(&v), -EUCLEAN);
		volume_thaw(&v, false);
		manifest_get(v.space, 3, &got);
		ck_assert_uint_eq(got.disk_frame, 0);
	}
	space_freeze(v.space);
	manifest_set(v.space, MAP_ENTRIES_MAX, &(struct manifest_place){20, 1, 1});
	ck_assert_int_eq(volume_write_maps(&v), -EOVERFLOW);
	volume_thaw(&v, false);
	manifest_get(v.space, UINT64_MAX, &got);
	ck_assert_uint_eq(got.disk_frame, 0);
	volume_close(&v);
}
END_TEST

START_TEST(failing_device_fails_the_checkpoint_and_the_open)
{
	struct device *memory, *faulty;
	struct volume v;

	ck_ok(device_open_memory(254 * 3 * FRAME_BYTES, &memory));
	ck_ok(device_open_faulty(memory, &faulty));
	volume_open_on(&v, faulty);
	for (uint64_t n = 1;; n++) {
		struct space_counters c;
		struct space_run run = volume_used_run(&v, 3);
		int err;

		space_freeze(v.space);
		faulty_set_plan(faulty, &(struct faulty_plan){.fail_write_at = n, .error = -EIO});
		err = volume_write_maps(&v);
		faulty_set_plan(faulty, &(struct faulty_plan){});
		volume_thaw(&v, err == 0);
		if (!err)
			break;
		ck_assert_int_eq(err, -EIO);
		c = volume_counters(&v);
		ck_assert_uint_eq(c.resting_blocks, 0);
		ck_assert(space_is_used(v.space, run.block, run.count));
		volume_reopen(&v);
		ck_assert(!space_is_used(v.space, run.block, run.count));
	}
	for (uint64_t n = 1;; n++) {
		int err;

		faulty_set_plan(faulty, &(struct faulty_plan){.fail_read_at = n, .error = -EIO});
		err = volume_try_open(&v);
		if (!err)
			break;
		ck_assert_int_eq(err, -EIO);
	}
	volume_close(&v);
}
END_TEST

void add_damage_tests(TCase *t)
{
	tcase_set_timeout(t, 60);
	tcase_add_test(t, damage_of_every_kind_of_page_is_found_and_named);
	tcase_add_test(t, old_and_foreign_pages_are_not_taken);
	tcase_add_test(t, page_found_at_another_block_is_damage);
	tcase_add_test(t, well_summed_nonsense_is_damage);
	tcase_add_test(t, maps_that_contradict_the_volume_are_damage);
	tcase_add_test(t, roots_outside_the_volume_are_damage);
	tcase_add_test(t, manifest_refuses_places_outside_the_volume);
	tcase_add_test(t, failing_device_fails_the_checkpoint_and_the_open);
}
