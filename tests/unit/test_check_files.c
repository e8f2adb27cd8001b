/*
 * What the walk finds in keys and values of the file layer, and that no bytes bring it
 * down.
 */
#include "config.h"

#include "tests/unit/check_volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs.h"

static struct findings found;

static void check_with_data(void)
{
	volume_check(&found, true);
}

/* Fields of an inode record, changed behind the file layer's back. */
struct record_case {
	const char *key;
	size_t key_bytes;
	void (*change)(struct inode_value *value);
	const char *finding; /* NULL: clean */
};

static void be_garbage(struct inode_value *value)
{
	value->bytes = 50;
}

static void be_inode_of_big(struct inode_value *value)
{
	value->head.ino = to_le64(from_le64(value->head.ino) + 1); /* made after it */
}

static void be_beyond_the_limit(struct inode_value *value)
{
	value->head.ino = to_le64(1ull << 40);
}

static void have_two_links(struct inode_value *value)
{
	value->head.nlink = to_le32(2);
}

static void have_nine_links(struct inode_value *value)
{
	value->head.nlink = to_le32(9);
}

static void have_one_entry_more(struct inode_value *value)
{
	value->head.size = to_le64(from_le64(value->head.size) + 1);
}

static void have_no_reach(struct inode_value *value)
{
	value->head.reach = to_le32(0);
}

static void be_marked_like_a_file(struct inode_value *value)
{
	value->head.flags = INODE_TAIL_STALE;
}

static void have_another_block(struct inode_value *value)
{
	value->head.blocks = to_le64(from_le64(value->head.blocks) + 1);
}

static void be_one_block(struct inode_value *value)
{
	value->head.size = to_le64(BLOCK_BYTES);
}

static void be_cut_in_the_first_span(struct inode_value *value)
{
	value->head.size = to_le64(BLOCK_BYTES);
	value->head.flags |= INODE_TRUNCATING;
}

static void be_cut_at_the_first_span(struct inode_value *value)
{
	value->head.size = to_le64(SPAN_BYTES);
	value->head.flags |= INODE_TRUNCATING;
}

static void be_too_large(struct inode_value *value)
{
	value->head.size = to_le64(FS_FILE_MAX + 1);
}

static void have_blocks_too(struct inode_value *value)
{
	value->head.blocks = to_le64(1);
}

static void have_claims(struct inode_value *value)
{
	value->head.claimed = to_le32(3);
}

static void have_a_longer_target(struct inode_value *value)
{
	value->head.size = to_le64(100);
}

#define SMALL KEY("N/\0small")
#define BIG KEY("N/\0big")
#define MANY KEY("N/\0many")
#define FIRST KEY("N/many/\0file-0000")

static const struct record_case record_cases[] = {
    {SMALL, be_garbage, "/small: damaged inode record"},
    {SMALL, be_inode_of_big, "/small (inode 4006): another inode has the same number"},
    {SMALL, be_beyond_the_limit, "/small (inode 1099511627776): the number was never given out"},
    {SMALL, have_two_links, "/small (inode 4005): link count is 2, should be 1"},
    {SMALL, have_another_block, "/small (inode 4005): counts 3 blocks of data, has 2"},
    {SMALL, have_claims, "/small (inode 4005): counts 3 allocated blocks, has 0"},
    {SMALL, be_one_block, "/small (inode 4005): data at offset 4096, beyond the size of 4096 bytes"},
    {SMALL, be_too_large, "/small (inode 4005): size of 8796093022209 bytes is beyond"},
    {BIG, have_another_block, "/big (inode 4006): counts 194 blocks of data, has 193"},
    {BIG, be_cut_in_the_first_span, "/big (inode 4006): data at offset 520192, beyond the size"},
    {BIG, be_cut_at_the_first_span, NULL},
    {MANY, be_garbage, "/many: damaged inode record"},
    {MANY, have_nine_links, "/many (inode 2): link count is 9, should be 3"},
    {MANY, have_one_entry_more, "/many (inode 2): counts 4002 entries, has 4001"},
    {MANY, have_no_reach, "/many (inode 2): keys below it go further"},
    {MANY, be_marked_like_a_file, "/many (inode 2): has blocks of data or marks"},
    {FIRST, have_blocks_too, "/many/file-0000 (inode 3): has data both"},
    {FIRST, have_claims, "/many/file-0000 (inode 3): has data both"},
    {FIRST, have_two_links, "/many/file-0000 (inode 3): link count is 2"},
    {KEY("N/\0link"), have_a_longer_target, "/link: damaged inode record"},
    {KEY("N/\0fifo"), have_blocks_too, "/fifo (inode 4007): has blocks of data"},
    {KEY("N/\0fifo"), have_claims, "/fifo (inode 4007): has blocks of data"},
    {KEY("N/many/\0deep"), have_nine_links, "/many/deep (inode 4003): link count is 9"},
    {KEY("N/many/deep/\0er"), have_nine_links, "/many/deep/er (inode 4004): link count is 9"},
    {KEY("N"), have_one_entry_more, "/ (inode 1): counts 6 entries, has 5"},
    {KEY("N"), be_garbage, "/: damaged inode record"},
};

/* Block 100 of /small, behind its end, is claimed. */
static void claim_a_block(struct store *store)
{
	struct inode_value value = inode_of(store, SMALL);
	struct span_map map;

	span_of(&value, &map);
	map.block[100] = SPAN_CLAIMED;
	span_put_back(&value, &map);
	value.head.blocks = to_le64(from_le64(value.head.blocks) + 1);
	value.head.claimed = to_le32(1);
	inode_put_back(store, SMALL, &value);
}

static void count_claims(struct store *store, uint64_t count, size_t bytes)
{
	le64 value = to_le64(count);

	volume_put(store, KEY(KEY_VOLUME_CLAIMS), &value, bytes);
}

START_TEST(check_holds_allocated_blocks_against_their_counter)
{
	struct store *store = volume_open();

	claim_a_block(store);
	count_claims(store, 1, sizeof(le64));
	volume_close(store);
	check_with_data();
	expect_clean(&found);
	store = volume_open();
	count_claims(store, 5, sizeof(le64));
	volume_close(store);
	check_with_data();
	expect_only(&found, CHECK_DAMAGE,
	    "1 blocks are allocated and not written, the counter says 5");
	store = volume_open();
	count_claims(store, 1, 3);
	volume_close(store);
	check_with_data();
	expect_only(&found, CHECK_DAMAGE, "the counter of allocated blocks is damaged");
	store = volume_open();
	volume_delete(store, KEY(KEY_VOLUME_CLAIMS));
	volume_close(store);
	check_with_data();
	expect_only(&found, CHECK_DAMAGE,
	    "1 blocks are allocated and not written, the counter says 0");
}
END_TEST

START_TEST(check_finds_a_record_that_is_not_true)
{
	const struct record_case *test = &record_cases[_i];
	struct store *store = volume_open();
	struct inode_value value = inode_of(store, test->key, test->key_bytes);

	test->change(&value);
	inode_put_back(store, test->key, test->key_bytes, &value);
	volume_close(store);
	check_with_data();
	if (test->finding)
		expect_only(&found, CHECK_DAMAGE, test->finding);
	else
		expect_clean(&found);
}
END_TEST

/* ---- keys --------------------------------------------------------------------------- */

struct key_case {
	const char *key;
	size_t key_bytes;
	const char *finding;
};

static const struct key_case key_cases[] = {
    {KEY("X"), "\"X\": a key of no known kind"},
    {KEY("Na"), "\"Na\": a key of no known kind"},
    {KEY("N/"), "a key of no known kind"},
    {KEY("N/loose"), "\"N/loose\": a key of no known kind"},
    {KEY("N//attr"), "a key of no known kind"},
    {KEY("N/many/deep/../\0x"), "a key of no known kind"},
    {KEY("O1234"), "a key of no known kind"},
    {KEY("Vother"), "a key of no known kind"},
    {KEY("R12345678"), "a key of no known kind"},
    {KEY("N/gone/\0x"), "/gone: something lies below it, but it has no entry"},
    {KEY("N/small/\0xxxxxxxx"), "/small: something lies below it that its inode does not know of"},
    {KEY("N/big/\0xxx"), "not a key of a file's extents"},
    {KEY("N/big/x/\0xxx"), "a key of no known kind"},
    {KEY("N/big/\0\0\0\0\0\0\0\x10\0"), "/big (inode 4006): an extent record at the impossible offset 4096"},
    {KEY("N/big/\0\0\0\0\0\0\x80\0\0"), "/big (inode 4006): damaged extent record at offset 8388608"},
    {KEY("O\0\0\0\0\0\0\0\x05/\0\0\0\0\0\0\x10\0\0"), "unlinked inode 5: extents without an inode record"},
    {KEY("O\0\0\0\0\0\0\0\x05"), "unlinked inode 5: damaged inode record"},
};

START_TEST(check_finds_a_key_that_should_not_be)
{
	const struct key_case *test = &key_cases[_i];
	struct store *store = volume_open();

	volume_put(store, test->key, test->key_bytes, "value", 5);
	volume_close(store);
	check_with_data();
	expect_only(&found, CHECK_DAMAGE, test->finding);
}
END_TEST

/* Names that cannot be, of entries that are fine otherwise. */
START_TEST(check_finds_names_that_cannot_be)
{
	static char names[4][300] = {"", ".", "..", "a/b"};
	static const uint32_t lengths[5] = {0, 1, 2, 3, 256};
	struct store *store = volume_open();
	struct inode_value root = inode_of(store, KEY("N"));
	struct inode_value value = inode_of(store, KEY("N/\0fifo"));
	char key[300] = "N/\0";

	if (_i == 4)
		memset(key + 3, 'x', 256);
	else
		memcpy(key + 3, names[_i], lengths[_i]);
	value.head.ino = to_le64(100000);
	volume_put(store, key, 3 + lengths[_i], value.raw, value.bytes);
	root.head.size = to_le64(6);
	inode_put_back(store, KEY("N"), &root);
	volume_close(store);
	check_with_data();
	expect_only(&found, CHECK_DAMAGE, "an entry's name is none");
}
END_TEST

START_TEST(check_misses_what_is_missing)
{
	static const struct {
		const char *key;
		size_t key_bytes;
		const char *findings[3];
	} cases[] = {
	    {KEY("N"), {"/: the root directory has no inode record"}},
	    {KEY("Vino"), {"the counter of inode numbers is missing"}},
	    {KEY("N/\0many"), {"/many: something lies below it, but it has no entry",
		"/ (inode 1): counts 5 entries, has 4", "/ (inode 1): link count is 3, should be 2"}},
	    {KEY("N/many/\0file-1234"), {"/many (inode 2): counts 4001 entries, has 4000"}},
	};
	struct store *store = volume_open();
	uint32_t count = 0;

	volume_delete(store, cases[_i].key, cases[_i].key_bytes);
	volume_close(store);
	check_with_data();
	for (; count < 3 && cases[_i].findings[count]; count++)
		ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, cases[_i].findings[count]), 1);
	ck_assert_uint_eq(found.totals.damages, count);
	ck_assert_uint_eq(found.totals.leaks, 0);
}
END_TEST

START_TEST(check_misses_the_span_of_a_file)
{
	struct store *store = volume_open();

	volume_delete(store, KEY("N/big/\0\0\0\0\0\0\x08\0\0"));
	volume_close(store);
	check_with_data();
	ck_assert_int_eq(found.result, 0);
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, "counts 193 blocks of data, has 128"), 1);
	ck_assert_uint_eq(findings_count(&found, CHECK_LEAK, "nothing names them"), found.totals.leaks);
	ck_assert_uint_eq(found.totals.damages, 1);
	ck_assert_uint_gt(found.totals.leaks, 0);
}
END_TEST

START_TEST(check_finds_spans_the_inode_does_not_know_of)
{
	struct store *store = volume_open();
	struct inode_value value = inode_of(store, KEY("N/\0big"));

	value.head.flags &= (uint8_t)~INODE_HAS_SPANS;
	value.head.blocks = to_le64(SPAN_BLOCKS);
	inode_put_back(store, KEY("N/\0big"), &value);
	volume_close(store);
	check_with_data();
	expect_only(&found, CHECK_DAMAGE, "/big: something lies below it that its inode does not");
}
END_TEST

/* ---- unlinked inodes -------------------------------------------------------------------- */

/* /big as an unlink leaves it while it is open. */
static void unlink_big(struct store *store, uint32_t nlink, uint64_t blocks)
{
	struct inode_value value = inode_of(store, KEY("N/\0big"));
	struct inode_value root = inode_of(store, KEY("N"));
	uint64_t ino = from_le64(value.head.ino);
	char key[20] = "O", contents[20] = "O";
	struct store_batch *batch;

	be64_store(key + 1, ino);
	be64_store(contents + 1, ino);
	contents[9] = '/';
	contents[10] = 0;
	value.head.nlink = to_le32(nlink);
	value.head.blocks = to_le64(blocks);
	root.head.size = to_le64(4);
	ck_ok(store_batch_create(store, &batch));
	store_batch_delete(batch, KEY("N/\0big"));
	store_batch_put(batch, KEY("N"), root.raw, root.bytes);
	store_batch_put(batch, key, 9, value.raw, value.bytes);
	store_batch_move_prefix(batch, KEY("N/big/\0"), contents, 11);
	ck_ok(store_commit(store, batch, NULL));
	store_batch_destroy(batch);
}

START_TEST(check_counts_unlinked_inodes)
{
	struct store *store = volume_open();

	unlink_big(store, 0, 193);
	volume_close(store);
	check_with_data();
	expect_clean(&found);
	ck_assert_uint_eq(findings_count(&found, CHECK_NOTE, "1 unlinked inodes await removal"), 1);
	ck_assert_uint_eq(found.totals.orphans, 1);
	ck_assert_uint_eq(found.totals.files, CHECK_FILES + 1);
}
END_TEST

START_TEST(check_allows_an_unlinked_inode_to_lose_spans_first)
{
	struct store *store = volume_open();

	unlink_big(store, 0, 194);
	volume_close(store);
	check_with_data();
	expect_clean(&found);
}
END_TEST

START_TEST(check_finds_an_unlinked_inode_that_is_not_true)
{
	struct store *store = volume_open();

	unlink_big(store, 1, 192);
	volume_close(store);
	check_with_data();
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE,
	    "unlinked inode 4006 (inode 4006): link count is 1, should be 0"), 1);
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE,
	    "unlinked inode 4006 (inode 4006): counts 192 blocks of data, has 193"), 1);
	ck_assert_uint_eq(found.totals.damages, 2);
}
END_TEST

/* ---- any bytes -------------------------------------------------------------------------- */

static void expect_no_crash(void)
{
	volume_check(&found, true);
	ck_assert(found.result == 0 || found.result == -EUCLEAN);
}

START_TEST(check_survives_any_bytes_in_values)
{
	static const struct {
		const char *key;
		size_t key_bytes;
	} keys[] = {{KEY("N")}, {KEY("N/\0big")}, {KEY("N/\0small")}, {KEY("N/\0many")},
	    {KEY("N/big/\0\0\0\0\0\0\x08\0\0")}, {KEY("N/\0link")}, {KEY("Vino")}};
	uint64_t state = support_seed(20261);
	uint8_t value[8192];

	for (int round = 0; round < 80; round++) {
		struct store *store = volume_open();
		uint32_t which = (uint32_t)support_random_below(&state, ARRAY_COUNT(keys));
		uint32_t bytes = store_value(store, keys[which].key, keys[which].key_bytes, value,
		    sizeof(value));
		uint8_t before[8192];

		memcpy(before, value, bytes);
		for (int i = 0; i < 3; i++)
			value[support_random_below(&state, bytes)] = (uint8_t)support_random(&state);
		volume_put(store, keys[which].key, keys[which].key_bytes, value, bytes);
		volume_close(store);
		expect_no_crash();
		store = volume_open();
		volume_put(store, keys[which].key, keys[which].key_bytes, before, bytes);
		volume_close(store);
	}
	check_with_data();
	expect_clean(&found);
}
END_TEST

/* The root frame with arbitrary bytes in it, under checksums that match. */
static void scramble_root(uint64_t *state)
{
	struct store *store = volume_open();
	struct inode_value value = inode_of(store, KEY("N"));
	uint64_t root = from_le64(store_superblock(store)->user_root);
	uint32_t slot, end;
	uint8_t *image;

	inode_put_back(store, KEY("N"), &value); /* so that closing writes it */
	slot = pool_find(store_pool(store), frame_key_make(FRAME_TREE, root));
	ck_assert_uint_ne(slot, POOL_NO_SLOT);
	image = pool_memory(store_pool(store), slot);
	end = from_le32(((const struct frame_header *)image)->heap_end);
	for (int i = 0; i < 20; i++)
		image[FRAME_HEADER_BYTES + support_random_below(state, end - FRAME_HEADER_BYTES)] =
		    (uint8_t)support_random(state);
	volume_close(store);
}

START_TEST(check_survives_any_nodes)
{
	uint64_t state = support_seed(20262);
	struct device *good;

	ck_ok(device_open_copy(volume, &good));
	for (int round = 0; round < 60; round++) {
		device_close(volume);
		ck_ok(device_open_copy(good, &volume));
		scramble_root(&state);
		expect_no_crash();
	}
	device_close(good);
}
END_TEST

START_TEST(check_survives_any_bits_on_disk)
{
	uint64_t state = support_seed(20263);
	struct device *good;

	volume_remove();
	volume_make_unclosed();
	ck_ok(device_open_copy(volume, &good));
	for (int round = 0; round < 60; round++) {
		uint64_t end = 30ull * FRAME_BYTES;

		for (int i = 0; i < 1 << round % 8; i++)
			ck_ok(device_flip_bit(volume, support_random_below(&state, end),
			    (unsigned)support_random_below(&state, 8)));
		volume_check(&found, true);
		device_close(volume);
		ck_ok(device_open_copy(good, &volume));
	}
	device_close(good);
	check_with_data();
	expect_clean(&found);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("check_files");
	TCase *files = tcase_create("files");
	TCase *bytes = tcase_create("any bytes");

	tcase_add_checked_fixture(files, volume_make, volume_remove);
	tcase_set_timeout(files, 60);
	tcase_add_loop_test(files, check_finds_a_record_that_is_not_true, 0, ARRAY_COUNT(record_cases));
	tcase_add_test(files, check_holds_allocated_blocks_against_their_counter);
	tcase_add_loop_test(files, check_finds_a_key_that_should_not_be, 0, ARRAY_COUNT(key_cases));
	tcase_add_loop_test(files, check_finds_names_that_cannot_be, 0, 5);
	tcase_add_loop_test(files, check_misses_what_is_missing, 0, 4);
	tcase_add_test(files, check_misses_the_span_of_a_file);
	tcase_add_test(files, check_finds_spans_the_inode_does_not_know_of);
	tcase_add_test(files, check_counts_unlinked_inodes);
	tcase_add_test(files, check_allows_an_unlinked_inode_to_lose_spans_first);
	tcase_add_test(files, check_finds_an_unlinked_inode_that_is_not_true);
	suite_add_tcase(s, files);

	tcase_add_checked_fixture(bytes, volume_make, volume_remove);
	tcase_set_timeout(bytes, 240);
	tcase_add_test(bytes, check_survives_any_bytes_in_values);
	tcase_add_test(bytes, check_survives_any_nodes);
	tcase_add_test(bytes, check_survives_any_bits_on_disk);
	suite_add_tcase(s, bytes);
	return s;
}

int main(void)
{
	return support_run(suite());
}
