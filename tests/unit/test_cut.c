/*
 * Where a full frame is cut.
 */
#include "config.h"

#include "tree/cut.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/support.h"

static uint8_t *image;
static uint32_t *sizes;

static void setup(void)
{
	image = aligned_alloc(BLOCK_BYTES, FRAME_BYTES);
	sizes = malloc(IMAGE_SIZES_BYTES);
	image_init(image, 1);
}

static void teardown(void)
{
	free(image);
	free(sizes);
}

static void put(const char *key, uint32_t value_bytes)
{
	static const uint8_t value[20000];
	uint32_t key_bytes = (uint32_t)strlen(key);
	struct image_path path;

	image_find(image, (const uint8_t *)key, key_bytes, 0, &path);
	ck_assert_uint_ge(image_room(image), image_put_room(key_bytes, value_bytes));
	image_put(image, &path, (const uint8_t *)key, key_bytes, value, value_bytes, 8);
}

/* Keys of @count times 110 bytes, or nearly. */
static void put_many(const char *format, unsigned count)
{
	char key[64];

	for (unsigned i = 0; i < count; i++) {
		snprintf(key, sizeof(key), format, i * 7919 % count);
		put(key, 100);
	}
}

/* @key wants room in a frame that stands for all bytes. */
static struct cut choose(const char *key, bool has_parent)
{
	struct cut_frame frame = {
	    .image = image,
	    .sizes = sizes,
	    .key = (const uint8_t *)key,
	    .key_bytes = (uint32_t)strlen(key),
	    .has_parent = has_parent,
	    .hi = 255,
	};
	struct cut cut;

	ck_assert(image_sizes(image, sizes));
	cut_choose(&frame, &cut);
	return cut;
}

/* What moves, of the frame's bytes, in percent. */
static uint32_t moving(const struct cut *cut)
{
	struct node_entry entry;
	uint32_t sum = 0;

	for (unsigned from = cut->lo; inner_next(image, inner_of(image, cut->node), from, &entry) &&
	     entry.lo <= cut->hi; from = entry.hi + 1)
		sum += sizes[entry.ref] & ~SUBTREE_HAS_CROSSING;
	return sum / (image_live_bytes(image) / 100);
}

static node_ref root(void)
{
	return from_le16(image_header(image)->root);
}

START_TEST(one_directory_is_lifted)
{
	struct cut cut;

	put_many("d/%05u", 3500);
	put("e", 50);
	cut = choose("d/77777", true);
	ck_assert_int_eq(cut.kind, CUT_LIFT);
	ck_assert_uint_eq(cut.lo, 'd');
	/* There is nothing to lift it to. */
	cut = choose("d/77777", false);
	ck_assert_int_eq(cut.kind, CUT_INSIDE);
}
END_TEST

START_TEST(a_lift_carries_little)
{
	put_many("d/%05u", 3000);
	put("e", 5000);
	ck_assert_int_eq(choose("d/77777", true).kind, CUT_LIFT);
	/* A key that ends where the directory branches goes up as well. */
	put("d/", 5000);
	ck_assert_int_ne(choose("d/77777", true).kind, CUT_LIFT);
}
END_TEST

START_TEST(an_even_root_is_cut_beside_the_half)
{
	struct cut cut;

	put_many("%04u", 3500);
	/* The keys of a frame begin where its root branches. */
	cut = choose("12345", true);
	ck_assert_int_eq(cut.kind, CUT_BESIDE);
	ck_assert_uint_eq(cut.node, root());
	ck_assert_uint_eq(cut.hi, 255);
	ck_assert_uint_ge(moving(&cut), 30);
	ck_assert_uint_le(moving(&cut), 70);
}
END_TEST

START_TEST(what_lies_before_a_key_behind_all_moves)
{
	struct cut cut;

	put_many("%04u", 3500);
	cut = choose("4", true);
	ck_assert_int_eq(cut.kind, CUT_BESIDE);
	ck_assert_uint_eq(cut.lo, 0);
	ck_assert_uint_eq(cut.hi, '4' - 1);
	ck_assert_uint_ge(moving(&cut), 95);
	/* Somewhere on the right edge where the root has little before it. */
	cut = choose("3600", false);
	ck_assert_int_eq(cut.kind, CUT_INSIDE);
	ck_assert_uint_ge(moving(&cut), 50);
}
END_TEST

START_TEST(crossings_stay_where_they_are)
{
	struct node_entry entry;
	struct cut cut;

	put_many("m%05u", 3300);
	for (unsigned byte = 'a'; byte <= 'z'; byte++)
		if (byte != 'm')
			image_header(image)->root = to_le16(inner_add(image, root(), byte, byte,
			    image_new_crossing(image, byte, byte, byte)));
	cut = choose("m77777", false);
	ck_assert_int_eq(cut.kind, CUT_INSIDE);
	for (unsigned from = cut.lo; inner_next(image, inner_of(image, cut.node), from, &entry) &&
	     entry.lo <= cut.hi; from = entry.hi + 1)
		ck_assert(!(sizes[entry.ref] & SUBTREE_HAS_CROSSING));
	ck_assert_uint_ge(moving(&cut), 25);
	ck_assert_uint_le(moving(&cut), 75);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cut");
	TCase *tcase = tcase_create("choices");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, one_directory_is_lifted);
	tcase_add_test(tcase, a_lift_carries_little);
	tcase_add_test(tcase, an_even_root_is_cut_beside_the_half);
	tcase_add_test(tcase, what_lies_before_a_key_behind_all_moves);
	tcase_add_test(tcase, crossings_stay_where_they_are);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
