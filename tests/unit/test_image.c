/*
 * One frame image against a plain sorted list of keys: insertion, replacement,
 * removal, copying and packing, with keys chosen to meet every node shape, prefixes
 * of one another, NUL bytes and long shared prefixes.
 */
#include "config.h"

#include "tree/image.h"

#include <stdio.h>
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

/* Keys of the root's entries lo..hi, in an image of their own. */
static void check_run(uint32_t *sizes, unsigned lo, unsigned hi)
{
	uint8_t *part = aligned_alloc(BLOCK_BYTES, FRAME_BYTES);
	struct image_part run = {.node = from_le16(image_header(image)->root), .lo = lo, .hi = hi};
	uint32_t depth = from_le16(((const struct node_inner *)node_at(image, run.node))->prefix_bytes);
	const char *why;

	image_lay_out(part, 9, image, sizes, &run);
	ck_ok(image_check(part, &why));
	for (unsigned i = 0; i < MODEL_MAX; i++) {
		const struct pair *pair = &pairs[i];
		struct image_path path;

		if (!pair->is_live || pair->key_bytes <= depth)
			continue;
		image_find(part, pair->key, pair->key_bytes, depth, &path);
		ck_assert_int_eq(path.result == IMAGE_FOUND,
		    lo <= pair->key[depth] && pair->key[depth] <= hi);
	}
	free(part);
}

static void check_laid_out(void)
{
	uint32_t *sizes = malloc(IMAGE_SIZES_BYTES);

	ck_assert(image_sizes(image, sizes));
	for (unsigned cut = 1; cut < 250; cut += 6) {
		check_run(sizes, 0, cut - 1);
		check_run(sizes, cut, 255);
	}
	free(sizes);
}

static void random_run(unsigned alphabet, uint32_t longest, uint64_t seed)
{
	uint64_t rng = seed;
	const char *why;

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
			ck_ok(image_compact(other, image));
			memcpy(image, other, FRAME_BYTES);
		}
		if (round % 1000 == 0)
			check_all(image);
	}
	check_all(image);
	check_laid_out();
	ck_ok(image_compact(other, image));
	ck_ok(image_check(other, &why));
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

/* ---- images of which not all is in memory --------------------------------------------- */

struct sparse {
	uint8_t *memory;
	const uint8_t *full;
	uint32_t end;
	uint8_t touched[FRAME_BLOCKS];
};

static int fetch_bytes(void *ctx, uint32_t offset, uint32_t bytes)
{
	struct sparse *sparse = ctx;

	ck_assert(bytes > 0 && offset < sparse->end && bytes <= sparse->end - offset);
	memcpy(sparse->memory + offset, sparse->full + offset, bytes);
	for (uint32_t block = offset / BLOCK_BYTES; block <= (offset + bytes - 1) / BLOCK_BYTES; block++)
		sparse->touched[block] = 1;
	return 0;
}

/* In memory that holds nothing else. */
static void probe(struct sparse *sparse, const struct pair *pair, struct image_path *ret)
{
	struct image_source source = {.ctx = sparse, .fetch = fetch_bytes};

	sparse->end = (uint32_t)round_up(from_le32(image_header_const(sparse->full)->heap_end), BLOCK_BYTES);
	source.end = sparse->end;
	memset(sparse->memory, 0xdb, FRAME_BYTES);
	memset(sparse->touched, 0, sizeof(sparse->touched));
	ck_ok(image_probe(sparse->memory, &source, pair->key, pair->key_bytes, 0, ret));
}

static void expect_same_path(const struct image_path *a, const struct image_path *b)
{
	ck_assert_int_eq(a->result, b->result);
	ck_assert_uint_eq(a->node, b->node);
	ck_assert_uint_eq(a->leaf, b->leaf);
	ck_assert_uint_eq(a->depth, b->depth);
	ck_assert_uint_eq(a->matched, b->matched);
}

/* A loop of node shapes: alphabets of 2 to 256 bytes. */
START_TEST(image_probe_finds_what_a_search_finds)
{
	static const unsigned alphabets[] = {2, 4, 14, 40, 256};
	struct sparse sparse = {.memory = malloc(FRAME_BYTES + BLOCK_BYTES), .full = image};
	uint64_t rng = support_seed(16) + (uint64_t)_i;
	struct image_path path, wanted;
	struct pair any = {0};
	node_ref root, crossing;

	for (unsigned i = 0; i < MODEL_MAX / 2; i++) {
		make_key(&pairs[i], &rng, alphabets[_i], 12);
		pairs[i].value_bytes = 30;
		put(&pairs[i], i + 1);
	}
	/* And a crossing at the root, where there is room for one. */
	root = from_le16(image_header(image)->root);
	if (_i < 4) {
		crossing = image_new_crossing(image, 100, 120, 77);
		image_header(image)->root = to_le16(inner_add(image, root, 100, 120, crossing));
	}
	for (unsigned i = 0; i < 600; i++) {
		make_key(&any, &rng, alphabets[_i] + 1, 13);
		if (i % 8 == 0)
			any.key[0] = (uint8_t)(99 + support_random_below(&rng, 23));
		image_find(image, any.key, any.key_bytes, 0, &wanted);
		probe(&sparse, &any, &path);
		expect_same_path(&path, &wanted);
		image_find(image, pairs[i].key, pairs[i].key_bytes, 0, &wanted);
		probe(&sparse, &pairs[i], &path);
		expect_same_path(&path, &wanted);
	}
	free(sparse.memory);
}
END_TEST

START_TEST(image_probe_ends_whatever_the_bytes_say)
{
	struct sparse sparse = {.memory = malloc(FRAME_BYTES + BLOCK_BYTES), .full = other};
	uint64_t rng = support_seed(17);

	for (unsigned i = 0; i < 500; i++) {
		make_key(&pairs[i], &rng, 20, 10);
		put(&pairs[i], i + 1);
	}
	for (unsigned round = 0; round < 500; round++) {
		uint32_t end = from_le32(image_header(image)->heap_end);
		struct image_path path;

		memcpy(other, image, end);
		for (unsigned flips = 0; flips < 60; flips++)
			other[FRAME_HEADER_BYTES + support_random_below(&rng, end - FRAME_HEADER_BYTES)] =
			    (uint8_t)support_random(&rng);
		probe(&sparse, &pairs[support_random_below(&rng, 500)], &path);
	}
	free(sparse.memory);
}
END_TEST

#define LAID_KEYS 4000u

static void fill_in_random_order(void)
{
	for (uint32_t i = 0; i < LAID_KEYS; i++) {
		struct pair pair = {.value_bytes = 32};

		pair.key_bytes = (uint32_t)sprintf((char *)pair.key, "%05u", i * 2711 % LAID_KEYS);
		put(&pair, i + 1);
	}
}

/* Blocks that a search touches beside the header and those that every tenth one does; of
 * those there are @ret_hot. */
static double cold_blocks(const uint8_t *full, uint32_t *ret_hot)
{
	struct sparse sparse = {.memory = malloc(FRAME_BYTES + BLOCK_BYTES), .full = full};
	uint32_t touches[FRAME_BLOCKS] = {0}, searches = 0, sum = 0;

	for (uint32_t i = 0; i < LAID_KEYS; i += 3, searches++) {
		struct pair pair = {0};
		struct image_path path;

		pair.key_bytes = (uint32_t)sprintf((char *)pair.key, "%05u", i);
		probe(&sparse, &pair, &path);
		ck_assert_int_eq(path.result, IMAGE_FOUND);
		for (unsigned block = 1; block < FRAME_BLOCKS; block++)
			touches[block] += sparse.touched[block];
	}
	*ret_hot = 0;
	for (unsigned block = 1; block < FRAME_BLOCKS; block++) {
		bool is_hot = touches[block] >= searches / 10;

		sum += is_hot ? 0 : touches[block];
		*ret_hot += is_hot;
	}
	free(sparse.memory);
	return (double)sum / searches;
}

START_TEST(image_laid_out_costs_a_search_one_block)
{
	const char *why;
	uint32_t hot;

	fill_in_random_order();
	ck_assert(cold_blocks(image, &hot) > 1.3);
	ck_ok(image_compact(other, image));
	ck_assert(cold_blocks(other, &hot) < 1.15);
	ck_assert_uint_le(hot, 2);
	ck_ok(image_check(other, &why));
	ck_assert_uint_eq(image_live_bytes(other), image_live_bytes(image));
}
END_TEST

START_TEST(image_loses_its_order_by_what_it_grows)
{
	struct pair pair = {.value_bytes = 100};
	uint32_t packs = 0, live;

	for (uint32_t i = 0; image_room(image) > 1000; i++) {
		pair.key_bytes = (uint32_t)sprintf((char *)pair.key, "%05u", i * 2711 % 10000);
		if (image_is_disordered(image)) {
			ck_ok(image_compact(other, image));
			memcpy(image, other, FRAME_BYTES);
			ck_assert(!image_is_disordered(image));
			packs++;
		}
		put(&pair, i + 1);
	}
	ck_assert_uint_ge(packs, 6);
	ck_assert_uint_le(packs, 8);
	/* What comes in the place of something else does not count. */
	ck_ok(image_compact(image, other));
	live = image_live_bytes(image);
	for (uint32_t i = 0; i < 200 && image_room(image) > 2000; i++) {
		pair.value_bytes = 600 + i % 2 * 90;
		put(&pair, i + 1);
	}
	ck_assert_uint_le(image_live_bytes(image), live + 1000);
	ck_assert(!image_is_disordered(image));
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
	tcase_add_loop_test(tcase, image_probe_finds_what_a_search_finds, 0, 5);
	tcase_add_test(tcase, image_probe_ends_whatever_the_bytes_say);
	tcase_add_test(tcase, image_laid_out_costs_a_search_one_block);
	tcase_add_test(tcase, image_loses_its_order_by_what_it_grows);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
