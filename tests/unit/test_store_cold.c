/*
 * Gets of a tree much larger than the pool: they read blocks and not frames, answer what a
 * store with all in memory would, and name what is damaged.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "device/device_test.h"
#include "tests/support/interrupted.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (256ull << 20)
#define KEYS 350000u /* about 70 frames */
#define GETS 4000u

static struct device *disk, *device; /* the device reads and writes the disk */
static struct store *store;
static uint64_t seed;

static const struct store_options large = {.cache_bytes = 128 << 20, .no_threads = true, .keep_device = true};
static const struct store_options middling = {.cache_bytes = 16 << 20, .no_threads = true, .keep_device = true};
static const struct store_options small = {.cache_bytes = 8 << 20, .no_threads = true, .keep_device = true};

static uint32_t key_of(uint32_t number, char *key)
{
	return (uint32_t)sprintf(key, "/usr/share/category-%u/file-%06u", number % 4, number);
}

/* Also what kind of value: some longer than a block. */
static uint32_t value_of(uint32_t number, uint8_t *value)
{
	uint32_t bytes = number % 5000 == 7 ? 9000 : 32;

	memset(value, (int)number, bytes);
	memcpy(value, &number, sizeof(number));
	return bytes;
}

static void reopen(const struct store_options *options)
{
	if (store)
		ck_ok(store_close(store));
	ck_ok(store_open(device, options, &store));
}

static void shuffle(uint32_t *numbers, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = (uint32_t)support_random_below(&seed, i + 1);

		numbers[i] = numbers[at];
		numbers[at] = i;
	}
}

static void fill(void)
{
	static uint32_t numbers[KEYS];
	static uint8_t value[9000];
	char key[64];

	shuffle(numbers, KEYS);
	for (uint32_t i = 0; i < KEYS; i++) {
		uint32_t bytes = value_of(numbers[i], value);

		ck_ok(store_put(store, key, key_of(numbers[i], key), value, bytes, NULL, NULL));
	}
}

static void setup(void)
{
	struct store_format_options options = {.label = "cold", .uuid = {7}};

	support_log_to_stderr();
	seed = 1;
	store = NULL;
	ck_ok(device_open_memory(VOLUME_BYTES, &disk));
	ck_ok(support_open_interrupted(disk, &device));
	ck_ok(store_format(device, &options));
	reopen(&large);
	fill();
	reopen(&small);
}

static void teardown(void)
{
	log_set_sink(NULL, NULL);
	ck_ok(store_close(store));
	device_close(device);
	device_close(disk);
}

static int get_number(uint32_t number)
{
	static _Thread_local uint8_t value[9000], wanted[9000];
	char key[64];
	uint32_t bytes;
	int err = store_get(store, key, key_of(number, key), value, sizeof(value), &bytes, NULL);

	if (err)
		return err;
	ck_assert_uint_eq(bytes, value_of(number, wanted));
	ck_assert(memcmp(value, wanted, bytes) == 0);
	return 0;
}

static void get_at_random(uint32_t gets)
{
	for (uint32_t i = 0; i < gets; i++)
		ck_ok(get_number((uint32_t)support_random_below(&seed, KEYS)));
}

START_TEST(cold_gets_read_one_block_each)
{
	struct device_counters before, after;
	struct store_counters loads, loads_after;

	get_at_random(GETS);
	store_counters(store, &loads);
	device_counters(device, &before);
	get_at_random(GETS);
	device_counters(device, &after);
	store_counters(store, &loads_after);
	/* A fifth of the blocks is in memory.  Were frames not packed now and then, a tenth more
	 * would be read. */
	ck_assert_uint_le(after.reads - before.reads, GETS / 100 * 76);
	ck_assert_uint_le(after.read_bytes - before.read_bytes, (uint64_t)GETS * BLOCK_BYTES);
	ck_assert_uint_le(loads_after.frame_loads - loads.frame_loads, GETS / 1000);
	ck_assert_uint_ge(loads_after.cold_gets - loads.cold_gets, GETS / 100 * 85);
}
END_TEST

START_TEST(cold_gets_answer_for_every_key)
{
	char key[64];
	uint8_t value[64];
	uint32_t bytes;

	for (uint32_t i = 0; i < KEYS; i += 7)
		ck_ok(get_number(i));
	for (uint32_t i = 0; i < GETS; i++) {
		uint32_t key_bytes = key_of((uint32_t)support_random_below(&seed, KEYS), key);

		/* Longer, shorter, another last byte, another in the middle. */
		if (i % 4 == 0)
			key[key_bytes++] = 'x';
		else if (i % 4 == 1)
			key_bytes--;
		else
			key[i % 4 == 2 ? key_bytes - 1 : 22] = '~';
		ck_assert_int_eq(store_get(store, key, key_bytes, value, sizeof(value), &bytes, NULL), -ENOENT);
	}
}
END_TEST

START_TEST(cold_gets_say_how_long_a_value_is)
{
	uint8_t value[100];
	uint32_t bytes;
	char key[64];

	get_at_random(100);
	ck_assert_int_eq(store_get(store, key, key_of(5007, key), value, sizeof(value), &bytes, NULL), -ERANGE);
	ck_assert_uint_eq(bytes, 9000);
}
END_TEST

START_TEST(frames_asked_for_often_are_loaded_whole)
{
	struct device_counters before, after;
	struct store_counters loads, loads_after;

	get_at_random(GETS);
	store_counters(store, &loads);
	for (uint32_t i = 0; i < 3000; i++)
		ck_ok(get_number(4 * (i % 1000)));
	store_counters(store, &loads_after);
	ck_assert_uint_gt(loads_after.frame_loads, loads.frame_loads);
	device_counters(device, &before);
	for (uint32_t i = 0; i < 1000; i++)
		ck_ok(get_number(4 * i));
	device_counters(device, &after);
	ck_assert_uint_eq(after.reads, before.reads);
}
END_TEST

/* Two or three frames for each slot of pieces: one of them has always the most votes. */
START_TEST(frames_asked_for_no_more_than_others_are_not_loaded_whole)
{
	struct device_counters before, after;
	struct store_counters loads, loads_after;

	reopen(&middling);
	get_at_random(8 * GETS);
	store_counters(store, &loads);
	device_counters(device, &before);
	get_at_random(4 * GETS);
	device_counters(device, &after);
	store_counters(store, &loads_after);
	ck_assert_uint_le(loads_after.frame_loads - loads.frame_loads, GETS / 1000);
	/* Two thirds of the blocks are in memory. */
	ck_assert_uint_le(after.reads - before.reads, 4 * GETS / 100 * 40);
}
END_TEST

static void expect_value(uint32_t number, uint32_t wanted)
{
	uint32_t got, bytes;
	char key[64];

	ck_ok(store_get(store, key, key_of(number, key), &got, sizeof(got), &bytes, NULL));
	ck_assert_uint_eq(bytes, sizeof(got));
	ck_assert_uint_eq(got, wanted);
}

START_TEST(cold_gets_see_what_was_written)
{
	static uint32_t counts[KEYS];
	char key[64];

	for (uint32_t i = 1; i < 1500; i++) {
		uint32_t number = 1 + (uint32_t)support_random_below(&seed, KEYS / 5000) * 5000, back;

		back = 1 + (uint32_t)support_random_below(&seed, KEYS / 5000) * 5000;
		if (i % 7 == 3) {
			ck_ok(store_delete(store, key, key_of(number, key), NULL, NULL));
			ck_assert_int_eq(get_number(number), -ENOENT);
		}
		ck_ok(store_put(store, key, key_of(number, key), &i, sizeof(i), NULL, NULL));
		counts[number] = i;
		expect_value(number, i);
		if (counts[back])
			expect_value(back, counts[back]);
		else
			ck_ok(get_number(back));
		ck_ok(get_number(number + 1));
		if (i % 50 == 0)
			ck_ok(store_checkpoint(store));
	}
}
END_TEST

static _Atomic unsigned damages;
static char damage[256];

static void keep_damage(void *ctx, enum log_level level, const char *line)
{
	if (level != LOG_LEVEL_ERROR)
		return;
	snprintf(damage, sizeof(damage), "%s", line);
	atomic_fetch_add(&damages, 1);
}

/* The search for some key as far as memory goes: it lacks a frame.  Returns its number. */
static uint32_t begin_search(char *key, struct tree_need *need)
{
	uint8_t value[64];
	uint32_t number, bytes;
	int err;

	do {
		number = (uint32_t)support_random_below(&seed, KEYS);
		*need = (struct tree_need){0};
		err = tree_get(&store->tree, false, (uint8_t *)key, key_of(number, key), value,
		    sizeof(value), &bytes, NULL, need);
	} while (err != -EAGAIN || number % 5000 == 7);
	return number;
}

/* Where on the device the value of a key lies that @need lacks the frame of. */
static uint64_t find_value(uint32_t number, const struct tree_need *need)
{
	uint8_t *frame = aligned_alloc(BLOCK_BYTES, FRAME_BYTES), wanted[9000];
	struct manifest_place place;
	uint64_t found = 0;

	value_of(number, wanted);
	manifest_get(store->space, need->frame_id, &place);
	ck_ok(device_read(device, frame, FRAME_BYTES, place.disk_frame * FRAME_BYTES));
	for (uint32_t at = FRAME_HEADER_BYTES; at + 32 <= FRAME_BYTES && !found; at++)
		if (memcmp(frame + at, wanted, 32) == 0)
			found = place.disk_frame * FRAME_BYTES + at;
	free(frame);
	ck_assert_uint_ne(found, 0);
	return found;
}

/* Damages the value of some key whose block is not in memory. */
static uint32_t damage_something(uint64_t *ret_offset)
{
	for (;;) {
		struct tree_need need;
		char key[64];
		uint32_t number = begin_search(key, &need);

		*ret_offset = find_value(number, &need) + 9;
		ck_ok(device_flip_bit(disk, *ret_offset, 3));
		if (get_number(number))
			return number;
		ck_ok(device_flip_bit(disk, *ret_offset, 3));
	}
}

START_TEST(a_damaged_block_is_named)
{
	uint64_t offset;
	uint32_t number;
	char place[64];

	get_at_random(GETS);
	log_set_sink(keep_damage, NULL);
	number = damage_something(&offset);
	atomic_store(&damages, 0);
	ck_assert_int_eq(get_number(number), -EUCLEAN);
	ck_assert_uint_eq(atomic_load(&damages), 1);
	sprintf(place, "at offset %llu does not verify", (unsigned long long)(offset - offset % BLOCK_BYTES));
	ck_assert_msg(strncmp(damage, "tree frame ", 11) == 0 && strstr(damage, place), "%s", damage);
	/* Others of the frame are there. */
	ck_ok(get_number(number > KEYS / 2 ? number - 400 : number + 400));
	ck_ok(device_flip_bit(disk, offset, 3));
	ck_ok(get_number(number));
}
END_TEST

static int search_on(const char *key, const struct tree_need *need)
{
	uint8_t value[64];
	uint32_t bytes;

	return cold_get(store, &store->tree, (const uint8_t *)key, (uint32_t)strlen(key), value,
	    sizeof(value), &bytes, NULL, need);
}

static bool is_in_memory(uint64_t frame_id)
{
	return pool_find(store->pool, frame_key_make(FRAME_TREE, frame_id)) != POOL_NO_SLOT;
}

/* Puts keys behind all others until a frame has been cut. */
static void cut_a_frame(void)
{
	static uint32_t last;
	uint64_t splits = atomic_load(&store->tree.counters.splits);
	char key[64];

	while (atomic_load(&store->tree.counters.splits) == splits)
		ck_ok(store_put(store, key, (uint32_t)sprintf(key, "zz-%06u", last++), key, 64, NULL, NULL));
}

static char disturbed_key[64];
static uint64_t disturbed_frame;

/* The frame is brought to memory and changed; and with @moves written to another place,
 * while something else comes to the one it had. */
static void change_frame(bool moves)
{
	static uint8_t other[FRAME_BYTES] __attribute__((aligned(BLOCK_BYTES)));
	struct manifest_place place;
	uint32_t value = 77;

	manifest_get(store->space, disturbed_frame, &place);
	ck_ok(store_put(store, disturbed_key, (uint32_t)strlen(disturbed_key), &value, sizeof(value), NULL, NULL));
	if (!moves)
		return;
	ck_ok(store_checkpoint(store));
	ck_ok(device_write(disk, other, sizeof(other), place.disk_frame * FRAME_BYTES));
}

static void change_and_move_frame(void)
{
	change_frame(true);
}

START_TEST(a_frame_that_has_come_to_memory_is_searched_there)
{
	struct tree_need need;

	get_at_random(1000);
	begin_search(disturbed_key, &need);
	disturbed_frame = need.frame_id;
	change_frame(false);
	ck_assert_int_eq(search_on(disturbed_key, &need), -ESTALE);
}
END_TEST

START_TEST(a_place_that_becomes_anothers_while_it_is_read_is_no_damage)
{
	struct tree_need need;
	int err;

	get_at_random(GETS);
	log_set_sink(keep_damage, NULL);
	atomic_store(&damages, 0);
	do {
		begin_search(disturbed_key, &need);
		disturbed_frame = need.frame_id;
		support_interrupt = change_and_move_frame;
		err = search_on(disturbed_key, &need);
	} while (support_interrupt); /* nothing had to be read */
	ck_assert_int_eq(err, -ESTALE);
	ck_assert_uint_eq(atomic_load(&damages), 0);
}
END_TEST

/* As above, and what comes to the place is the image of another frame. */
static void move_frame_and_put_another(void)
{
	static uint8_t other[FRAME_BYTES] __attribute__((aligned(BLOCK_BYTES)));
	struct manifest_place place, others;

	manifest_get(store->space, disturbed_frame, &place);
	manifest_get(store->space, disturbed_frame == 5 ? 6 : 5, &others);
	ck_assert_uint_gt(others.disk_frame, 0);
	ck_ok(device_read(disk, other, sizeof(other), others.disk_frame * FRAME_BYTES));
	change_frame(true);
	ck_ok(device_write(disk, other, sizeof(other), place.disk_frame * FRAME_BYTES));
}

/* The header is read first: nothing of the frame is in memory. */
START_TEST(a_header_that_is_another_frames_is_not_searched_with)
{
	struct tree_need need;

	for (unsigned i = 0; i < 20; i++) {
		reopen(&small);
		get_at_random(3); /* the frames above, whole */
		begin_search(disturbed_key, &need);
		disturbed_frame = need.frame_id;
		support_interrupt = move_frame_and_put_another;
		ck_assert_int_eq(search_on(disturbed_key, &need), -ESTALE);
		ck_assert(!support_interrupt);
	}
}
END_TEST

START_TEST(an_answer_counts_only_while_the_tree_keeps_its_shape)
{
	char key[64];
	struct tree_need need;

	get_at_random(1000);
	begin_search(key, &need);
	ck_ok(search_on(key, &need));

	/* Cutting brings the root to memory, and perhaps the very frame. */
	do {
		begin_search(key, &need);
		cut_a_frame();
	} while (is_in_memory(need.frame_id));
	ck_assert_int_eq(search_on(key, &need), -ESTALE);
}
END_TEST

static void *get_in_thread(void *ctx)
{
	uint64_t own = (uintptr_t)ctx;

	for (uint32_t i = 0; i < GETS; i++)
		ck_ok(get_number((uint32_t)support_random_below(&own, KEYS)));
	return NULL;
}

START_TEST(cold_gets_of_several_threads_agree)
{
	pthread_t threads[4];

	for (uintptr_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, get_in_thread, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_cold");
	TCase *tc = tcase_create("gets");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, cold_gets_read_one_block_each);
	tcase_add_test(tc, cold_gets_answer_for_every_key);
	tcase_add_test(tc, cold_gets_say_how_long_a_value_is);
	tcase_add_test(tc, frames_asked_for_no_more_than_others_are_not_loaded_whole);
	tcase_add_test(tc, frames_asked_for_often_are_loaded_whole);
	tcase_add_test(tc, cold_gets_see_what_was_written);
	tcase_add_test(tc, a_damaged_block_is_named);
	tcase_add_test(tc, a_frame_that_has_come_to_memory_is_searched_there);
	tcase_add_test(tc, a_place_that_becomes_anothers_while_it_is_read_is_no_damage);
	tcase_add_test(tc, a_header_that_is_another_frames_is_not_searched_with);
	tcase_add_test(tc, an_answer_counts_only_while_the_tree_keeps_its_shape);
	tcase_add_test(tc, cold_gets_of_several_threads_agree);
	suite_add_tcase(suite, tc);
	return support_run(suite);
}
