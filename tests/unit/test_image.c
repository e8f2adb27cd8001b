/*
 * One frame image against a plain sorted list of keys: insertion, replacement,
 * removal, copying and packing, with keys chosen to meet every node shape, prefixes
 * of one another, NUL bytes and long shared prefixes.
 */
#include "config.h"

#include "tree/image.h"

#include <stdlib.h>

#include "tests/support/support.h"

#define MODEL_MAX 2000

struct pair {
	uint8_t key[100];
	uint32_t key_bytes;
	uint8_t value[700]; /* more than a short leaf has */
	uint32_t value_bytes;
	bool is_live;
};

static struct pair pairs[MODEL_MAX];
static uint8_t *image, *other;

static void setup(void)
{
	image = aligned_alloc(4096, FRAME_BYTES);
	other = aligned_alloc(4096, FRAME_BYTES);
	memset(image, 0xee, FRAME_BYTES);
	image_init(image, 1);
	memset(pairs, 0, sizeof(pairs));
}

static void teardown(void)
{
	free(image);
	free(other);
}

/* Keys over a small alphabet, so that many are prefixes of others. */
static void make_key(struct pair *pair, uint64_t *rng, unsigned alphabet, uint32_t longest)
{
	pair->key_bytes = 1 + (uint32_t)support_random_below(rng, longest);
	for (uint32_t i = 0; i < pair->key_bytes; i++)
		pair->key[i] = (uint8_t)support_random_below(rng, alphabet);
}

static struct pair *find_pair(const uint8_t *key, uint32_t key_bytes)
{
	for (unsigned i = 0; i < MODEL_MAX; i++)
		if (pairs[i].is_live && pairs[i].key_bytes == key_bytes &&
		    memcmp(pairs[i].key, key, key_bytes) == 0)
			return &pairs[i];
	return NULL;
}

static void put(struct pair *pair, uint64_t seq)
{
	struct image_path path;

	image_find(image, pair->key, pair->key_bytes, 0, &path);
	ck_assert(path.result != IMAGE_DAMAGED && path.result != IMAGE_CROSSING);
	ck_assert_uint_ge(image_room(image), image_put_room(pair->key_bytes, pair->value_bytes));
	image_put(image, &path, pair->key, pair->key_bytes, pair->value, pair->value_bytes, seq);
}

static void check_all(const uint8_t *in)
{
	for (unsigned i = 0; i < MODEL_MAX; i++) {
		struct pair *pair = &pairs[i];
		struct image_path path;
		struct leaf_parts leaf;

		if (!pair->key_bytes)
			continue;
		image_find(in, pair->key, pair->key_bytes, 0, &path);
		if (!find_pair(pair->key, pair->key_bytes)) {
			ck_assert_int_ne(path.result, IMAGE_FOUND);
			continue;
		}
		if (!pair->is_live)
			continue;
		ck_assert_int_eq(path.result, IMAGE_FOUND);
		leaf = leaf_take_apart(node_at(in, path.leaf));
		ck_assert_uint_eq(leaf.value_bytes, pair->value_bytes);
		ck_assert(memcmp(leaf.value, pair->value,
		    pair->value_bytes) == 0);
	}
}

static void random_run(unsigned alphabet, uint32_t longest, uint64_t seed)
{
	uint64_t rng = seed;

	for (unsigned round = 0; round < 20000; round++) {
		struct pair *pair = &pairs[support_random_below(&rng, MODEL_MAX)];
		struct pair fresh = {0}, *have;
		struct image_path path;

		if (pair->is_live && support_random_below(&rng, 2)) {
			image_find(image, pair->key, pair->key_bytes, 0, &path);
			ck_assert_int_eq(path.result, IMAGE_FOUND);
			image_erase(image, &path, pair->key, pair->key_bytes, 0, 0);
			pair->is_live = false;
			continue;
		}
		make_key(&fresh, &rng, alphabet, longest);
		have = find_pair(fresh.key, fresh.key_bytes);
		if (have)
			pair = have;
		else if (pair->is_live)
			continue;
		else
			*pair = fresh;
		pair->value_bytes = (uint32_t)support_random_below(&rng, support_random_below(&rng, 20) ? 40 : sizeof(pair->value));
		memset(pair->value, (int)round, sizeof(pair->value));
		pair->is_live = true;
		put(pair, 8 * (round + 1));
		if (image_room(image) < 4096) {
			ck_assert(image_compact(other, image));
			memcpy(image, other, FRAME_BYTES);
		}
		if (round % 1000 == 0)
			check_all(image);
	}
	check_all(image);
	ck_assert(image_compact(other, image));
	check_all(other);
	/* Packing keeps exactly what was counted as alive. */
	ck_assert_uint_eq(image_live_bytes(other), image_live_bytes(image));
	ck_assert_uint_eq(from_le32(image_header(other)->heap_end) - FRAME_HEADER_BYTES,
	    image_live_bytes(other));
	ck_assert_uint_eq(from_le32(image_header(other)->node_count),
	    from_le32(image_header(image)->node_count));
}

START_TEST(image_agrees_with_a_list_for_dense_keys)
{
	random_run(4, 8, support_seed(11) + (uint64_t)_i);
}
END_TEST

START_TEST(image_agrees_with_a_list_for_wide_nodes)
{
	random_run(256, 2, support_seed(12) + (uint64_t)_i);
}
END_TEST

START_TEST(image_agrees_with_a_list_for_long_shared_prefixes)
{
	random_run(2, 100, support_seed(13) + (uint64_t)_i);
}
END_TEST

START_TEST(image_is_empty_after_everything_is_erased)
{
	uint64_t rng = support_seed(14);

	for (unsigned i = 0; i < 1000; i++) {
		make_key(&pairs[i], &rng, 8, 12);
		pairs[i].is_live = find_pair(pairs[i].key, pairs[i].key_bytes) == NULL;
		if (pairs[i].is_live)
			put(&pairs[i], i + 1);
	}
	for (unsigned i = 0; i < 1000; i++) {
		struct image_path path;

		if (!pairs[i].is_live)
			continue;
		image_find(image, pairs[i].key, pairs[i].key_bytes, 0, &path);
		image_erase(image, &path, pairs[i].key, pairs[i].key_bytes, 0, 0);
	}
	ck_assert(image_is_empty(image));
	ck_assert_uint_eq(from_le32(image_header(image)->node_count), 1);
	ck_assert_uint_le(image_live_bytes(image), 520);
}
END_TEST

START_TEST(image_subtree_copy_takes_another_prefix)
{
	static const char *const keys[] = {"dir/a", "dir/ab", "dir/b", "dirt", "x"};
	struct image_path path;
	static const uint8_t zeros[128];
	node_ref copy, holes[12];
	bool is_damaged;

	for (unsigned i = 0; i < ARRAY_COUNT(keys); i++) {
		pairs[i].key_bytes = (uint32_t)strlen(keys[i]);
		memcpy(pairs[i].key, keys[i], pairs[i].key_bytes);
		pairs[i].is_live = true;
		put(&pairs[i], i + 1);
	}
	image_find(image, (const uint8_t *)"dir/", 4, 0, &path);
	image_init(other, 2);
	/* Holes of every size that the copies could be tempted into. */
	for (unsigned i = 0; i < 12; i++)
		holes[i] = image_new_leaf(other, "", 0, zeros, i * 8, 1);
	image_new_leaf(other, "", 0, "", 0, 1);
	for (unsigned i = 0; i < 12; i++)
		image_free(other, holes[i]);
	copy = image_copy(other, image, path.node, (const uint8_t *)"new", 3, 0, &is_damaged);
	ck_assert_uint_ne(copy, 0);
	inner_add(other, from_le16(image_header(other)->root), 'Q', 'Q', copy);
	image_find(other, (const uint8_t *)"Qnewab", 6, 0, &path);
	ck_assert_int_eq(path.result, IMAGE_FOUND);
	image_find(other, (const uint8_t *)"Qnewc", 5, 0, &path);
	ck_assert_int_eq(path.result, IMAGE_NO_CHILD);
}
END_TEST

START_TEST(image_crossing_is_found_for_every_byte_of_its_run)
{
	static const unsigned singles[] = {0, 3, 200, 201, 255};
	node_ref root = from_le16(image_header(image)->root);

	/* In every node shape: as plain neighbours are added, the node grows. */
	root = inner_add(image, root, 10, 20, image_new_crossing(image, 10, 20, 77));
	image_header(image)->root = to_le16(root);
	for (unsigned extra = 0; extra < 150; extra++) {
		unsigned byte = extra < 5 ? singles[extra] : 20 + extra;
		const struct node_inner *inner = (const void *)node_at(image, root);
		struct node_entry entry;

		for (unsigned b = 10; b <= 20; b++) {
			ck_assert_uint_ne(inner_find(image, inner, (uint8_t)b), 0);
			ck_assert(inner_next(image, inner, b, &entry));
			ck_assert_uint_eq(entry.lo, 10);
			ck_assert_uint_eq(entry.hi, 20);
		}
		ck_assert_uint_eq(inner_find(image, inner, 9), 0);
		ck_assert_uint_eq(inner_find(image, inner, 21), 0);
		root = inner_add(image, root, byte, byte, image_new_leaf(image, "", 0, "", 0, 1));
		image_header(image)->root = to_le16(root);
	}
}
END_TEST

START_TEST(image_search_survives_any_flipped_bytes)
{
	uint64_t rng = support_seed(15);

	for (unsigned i = 0; i < 500; i++) {
		make_key(&pairs[i], &rng, 20, 10);
		put(&pairs[i], i + 1);
	}
	for (unsigned round = 0; round < 3000; round++) {
		uint32_t end = from_le32(image_header(image)->heap_end);
		struct pair probe = {0};
		struct image_path path;

		memcpy(other, image, end);
		for (unsigned flips = 0; flips < 40; flips++)
			other[support_random_below(&rng, end)] = (uint8_t)support_random(&rng);
		for (unsigned i = 0; i < 20; i++) {
			make_key(&probe, &rng, 20, 10);
			image_find(other, probe.key, probe.key_bytes, 0, &path);
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("image");
	TCase *tcase = tcase_create("image");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, image_agrees_with_a_list_for_dense_keys, 0, 4);
	tcase_add_loop_test(tcase, image_agrees_with_a_list_for_wide_nodes, 0, 4);
	tcase_add_loop_test(tcase, image_agrees_with_a_list_for_long_shared_prefixes, 0, 4);
	tcase_add_test(tcase, image_is_empty_after_everything_is_erased);
	tcase_add_test(tcase, image_subtree_copy_takes_another_prefix);
	tcase_add_test(tcase, image_crossing_is_found_for_every_byte_of_its_run);
	tcase_add_test(tcase, image_search_survives_any_flipped_bytes);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
