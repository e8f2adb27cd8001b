/*
 * Goal: every back end keeps the contract of device.h and device_test.h.
 * Method: here the back ends in memory: patterns written and read back, the power
 * of a recording device cut at each event, each operation of a faulty one failed.
 * test_device_file.c and test_device_uring.c drive real files.
 */
#include "config.h"

#include "tests/unit/test_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device/device_test.h"
#include "tests/support/support.h"

void *test_bytes(uint32_t bytes, unsigned char byte)
{
	void *data = aligned_alloc(BLOCK, bytes);

	ck_assert_ptr_nonnull(data);
	memset(data, byte, bytes);
	return data;
}

void test_put(struct device *device, uint64_t block, unsigned char byte)
{
	void *data = test_bytes(BLOCK, byte);

	ck_ok(device_write(device, data, BLOCK, block * BLOCK));
	free(data);
}

int test_get(struct device *device, uint64_t block)
{
	unsigned char *data = test_bytes(BLOCK, 0xee);
	int byte;

	ck_ok(device_read(device, data, BLOCK, block * BLOCK));
	byte = data[0];
	for (unsigned i = 1; i < BLOCK; i++)
		if (data[i] != data[0])
			byte = -1;
	free(data);
	return byte;
}

START_TEST(device_memory_keeps_blocks_and_starts_with_zeros)
{
	struct device *device;
	struct device_counters counters;

	ck_ok(device_open_memory(4 * MIB + 100, &device));
	ck_assert_uint_eq(device_bytes(device), 4 * MIB);
	ck_assert_str_eq(device_describe(device), "memory");
	ck_assert_int_eq(test_get(device, 1023), 0);
	test_put(device, 3, 7);
	ck_assert_int_eq(test_get(device, 3), 7);
	ck_assert_int_eq(test_get(device, 4), 0);
	ck_ok(device_flush(device));
	ck_ok(device_allocate(device, 0, MIB));
	ck_ok(device_discard(device, 0, MIB));
	ck_assert_int_eq(test_get(device, 3), 0);
	device_counters(device, &counters);
	ck_assert_uint_eq(counters.reads, 4);
	ck_assert_uint_eq(counters.read_bytes, 4 * BLOCK);
	ck_assert_uint_eq(counters.writes, 1);
	ck_assert_uint_eq(counters.write_bytes, BLOCK);
	ck_assert_uint_eq(counters.flushes, 1);
	device_close(device);
	device_close(NULL);
}
END_TEST

START_TEST(device_memory_of_no_bytes_is_refused)
{
	struct device *device;

	ck_assert_int_eq(device_open_memory(100, &device), -EINVAL);
}
END_TEST

START_TEST(device_batch_goes_on_past_a_request_out_of_range)
{
	struct device *device;
	struct device_batch batch;
	struct device_request requests[5];
	void *data = test_bytes(BLOCK, 4);

	ck_ok(device_open_memory(MIB, &device));
	device_batch_init(&batch);
	for (unsigned i = 0; i < 5; i++)
		requests[i] = (struct device_request){
		    .op = DEVICE_WRITE,
		    .slot = DEVICE_NO_SLOT,
		    .data = data,
		    .bytes = BLOCK,
		    .offset = i == 2 ? MIB : i * BLOCK,
		};
	device_submit(device, &batch, requests, 5);
	ck_assert(device_batch_is_done(device, &batch));
	ck_assert_int_eq(device_wait(device, &batch), -EIO);
	ck_assert_int_eq(requests[2].result, -EIO);
	ck_ok(requests[4].result);
	ck_assert_int_eq(test_get(device, 4), 4);
	device_submit(device, &batch, requests, 2);
	ck_ok(device_wait(device, &batch));
	ck_assert_int_eq(device_read(device, data, BLOCK, UINT64_MAX - BLOCK + 1), -EIO);
	free(data);
	device_close(device);
}
END_TEST

START_TEST(device_copy_has_the_content_and_is_apart)
{
	struct device *device;
	struct device *copy;

	ck_ok(device_open_memory(3 * MIB, &device));
	test_put(device, 767, 1);
	ck_ok(device_open_copy(device, &copy));
	test_put(device, 767, 2);
	ck_assert_int_eq(test_get(copy, 767), 1);
	ck_assert_int_eq(test_get(copy, 0), 0);
	device_close(device);
	device_close(copy);
}
END_TEST

START_TEST(device_recording_cut_keeps_what_was_flushed)
{
	struct device *device;
	struct device *after;

	ck_ok(device_open_recording(MIB, &device));
	test_put(device, 0, 1);
	ck_ok(device_flush(device));
	test_put(device, 0, 2);
	test_put(device, 1, 3);
	ck_assert_uint_eq(recording_event_count(device), 4);
	ck_assert(recording_event_is_flush(device, 1));
	ck_assert(!recording_event_is_flush(device, 2));
	ck_ok(recording_cut(device, 4, 0, RECORDING_TEAR_512, &after));
	ck_assert_int_eq(test_get(after, 0), 1);
	ck_assert_int_eq(test_get(after, 1), 0);
	device_close(after);
	ck_ok(recording_cut(device, 3, UINT64_MAX, RECORDING_TEAR_512, &after));
	ck_assert_int_eq(test_get(after, 0), 2);
	ck_assert_int_eq(test_get(after, 1), 0);
	device_close(after);
	ck_ok(recording_cut(device, 1, 0, RECORDING_WHOLE, &after));
	ck_assert_int_eq(test_get(after, 0), 0);
	device_close(after);
	ck_assert_int_eq(recording_cut(device, 5, 0, RECORDING_WHOLE, &after), -EINVAL);
	device_close(device);
}
END_TEST

/* The picks among 16 unflushed writes, a bit each. */
static uint32_t picked(struct device *device, uint64_t seed)
{
	struct device *after;
	uint32_t bits = 0;

	ck_ok(recording_cut(device, 16, seed, RECORDING_WHOLE, &after));
	for (unsigned i = 0; i < 16; i++) {
		int byte = test_get(after, i);

		ck_assert(byte == 0 || byte == (int)i + 1);
		bits |= (byte != 0) << i;
	}
	device_close(after);
	return bits;
}

START_TEST(device_recording_cut_picks_by_seed_any_subset)
{
	uint64_t seed = support_seed(1);
	uint32_t ever = 0;
	uint32_t always = 0xffff;
	struct device *device;

	ck_ok(device_open_recording(MIB, &device));
	for (unsigned i = 0; i < 16; i++)
		test_put(device, i, (unsigned char)(i + 1));
	for (unsigned i = 0; i < 64; i++) {
		uint32_t bits = picked(device, seed + i);

		ck_assert_uint_eq(bits, picked(device, seed + i));
		ever |= bits;
		always &= bits;
	}
	ck_assert_uint_eq(ever, 0xffff);
	ck_assert_uint_eq(always, 0);
	ck_assert_uint_eq(picked(device, 0), 0);
	ck_assert_uint_eq(picked(device, UINT64_MAX), 0xffff);
	device_close(device);
}
END_TEST

enum { TORN_NONE = 1, TORN_PREFIX = 2, TORN_HOLES = 4, TORN_ALL = 8 };

/* Which way the two blocks were torn; asserts units of @unit bytes. */
static int torn_way(struct device *after, uint32_t unit)
{
	unsigned char *data = test_bytes(2 * BLOCK, 0xee);
	uint32_t units = 2 * BLOCK / unit;
	uint32_t there = 0;
	bool has_hole = false;
	bool is_torn_inside = false;

	ck_ok(device_read(after, data, 2 * BLOCK, 0));
	for (uint32_t i = 0; i < units; i++) {
		for (uint32_t j = 1; j < unit; j++)
			is_torn_inside |= data[i * unit] != data[i * unit + j];
		has_hole |= data[i * unit] != 0 && there < i;
		there += data[i * unit] != 0;
	}
	free(data);
	ck_assert(!is_torn_inside);
	if (there == 0)
		return TORN_NONE;
	if (has_hole)
		return TORN_HOLES;
	return there == units ? TORN_ALL : TORN_PREFIX;
}

START_TEST(device_recording_cut_tears_at_the_unit)
{
	uint64_t seed = support_seed(1);
	void *data = test_bytes(2 * BLOCK, 9);
	struct device *device;

	ck_ok(device_open_recording(MIB, &device));
	ck_ok(device_write(device, data, 2 * BLOCK, 0));
	for (unsigned tear = RECORDING_TEAR_512; tear <= RECORDING_TEAR_4096; tear++) {
		int ways = 0;

		for (unsigned i = 0; i < 100; i++) {
			struct device *after;

			ck_ok(recording_cut(device, 1, seed + i, tear, &after));
			ways |= torn_way(after, tear == RECORDING_TEAR_512 ? 512 : 4096);
			device_close(after);
		}
		ck_assert_int_eq(ways, TORN_NONE | TORN_PREFIX | TORN_HOLES | TORN_ALL);
	}
	free(data);
	device_close(device);
}
END_TEST

START_TEST(device_recording_restarts_at_the_present_content)
{
	struct device *device;
	struct device *after;

	ck_ok(device_open_recording(MIB, &device));
	test_put(device, 0, 1);
	recording_restart(device);
	ck_assert_uint_eq(recording_event_count(device), 0);
	test_put(device, 1, 2);
	ck_ok(recording_cut(device, 1, 0, RECORDING_WHOLE, &after));
	ck_assert_int_eq(test_get(after, 0), 1);
	ck_assert_int_eq(test_get(after, 1), 0);
	device_close(after);
	device_close(device);
}
END_TEST

START_TEST(device_recording_takes_a_discard_for_a_write_of_anything)
{
	struct device *device;
	struct device *after;

	ck_ok(device_open_recording(MIB, &device));
	test_put(device, 0, 1);
	ck_ok(device_flush(device));
	ck_ok(device_discard(device, 0, BLOCK));
	ck_assert_int_eq(test_get(device, 0), 0xd5);
	ck_assert_uint_eq(recording_event_count(device), 3);
	ck_ok(recording_cut(device, 3, 0, RECORDING_WHOLE, &after));
	ck_assert_int_eq(test_get(after, 0), 1);
	device_close(after);
	ck_ok(recording_cut(device, 3, UINT64_MAX, RECORDING_WHOLE, &after));
	ck_assert_int_eq(test_get(after, 0), 0xd5);
	device_close(after);
	device_close(device);
}
END_TEST

static struct device *open_faulty(struct faulty_plan plan)
{
	struct device *inner;
	struct device *device;

	ck_ok(device_open_memory(MIB, &inner));
	ck_ok(device_open_faulty(inner, &device));
	faulty_set_plan(device, &plan);
	return device;
}

START_TEST(device_faulty_fails_the_nth_write_only)
{
	struct device *device =
	    open_faulty((struct faulty_plan){.fail_write_at = 2, .error = -ENOSPC});
	void *data = test_bytes(BLOCK, 9);
	uint64_t reads, writes, flushes;

	ck_ok(device_write(device, data, BLOCK, 0));
	ck_assert_int_eq(device_write(device, data, BLOCK, BLOCK), -ENOSPC);
	ck_ok(device_write(device, data, BLOCK, 2 * BLOCK));
	ck_assert_int_eq(test_get(device, 0), 9);
	ck_assert_int_eq(test_get(device, 1), 0);
	ck_assert_int_eq(test_get(device, 2), 9);
	faulty_seen(device, &reads, &writes, &flushes);
	ck_assert_uint_eq(reads, 3);
	ck_assert_uint_eq(writes, 3);
	ck_assert_uint_eq(flushes, 0);
	free(data);
	device_close(device);
}
END_TEST

START_TEST(device_faulty_fails_all_later_reads_if_sticky)
{
	const struct faulty_plan none = {.fail_read_at = 0};
	struct device *device = open_faulty((struct faulty_plan){
	    .fail_read_at = 3, .error = -EIO, .is_sticky = true});
	struct device_request requests[4];
	struct device_batch batch;
	void *data = test_bytes(BLOCK, 9);

	device_batch_init(&batch);
	for (unsigned i = 0; i < 4; i++)
		requests[i] = (struct device_request){
		    .slot = DEVICE_NO_SLOT, .data = data, .bytes = BLOCK};
	device_submit(device, &batch, requests, 4);
	ck_assert_int_eq(device_wait(device, &batch), -EIO);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(requests[i].result, i < 2 ? 0 : -EIO);
	faulty_set_plan(device, &none);
	ck_assert_int_eq(test_get(device, 0), 0);
	free(data);
	device_close(device);
}
END_TEST

START_TEST(device_flush_that_failed_fails_for_good)
{
	const struct faulty_plan none = {.fail_flush_at = 0};
	struct device *device =
	    open_faulty((struct faulty_plan){.fail_flush_at = 1, .error = -EIO});
	void *data = test_bytes(BLOCK, 9);

	ck_ok(device_write(device, data, BLOCK, 0));
	ck_assert_int_eq(device_flush(device), -EIO);
	ck_assert_int_eq(device_flush(device), -EIO);
	ck_assert_int_eq(device_write(device, data, BLOCK, BLOCK), -EIO);
	ck_assert_int_eq(device_discard(device, 0, BLOCK), -EIO);
	ck_assert_int_eq(test_get(device, 0), 9);
	ck_assert_int_eq(test_get(device, 1), 0);
	faulty_set_plan(device, &none);
	ck_ok(device_write(device, data, BLOCK, BLOCK));
	ck_ok(device_flush(device));
	free(data);
	device_close(device);
}
END_TEST

START_TEST(device_flip_bit_and_copy_are_not_counted)
{
	struct device *device =
	    open_faulty((struct faulty_plan){.fail_read_at = 1, .error = -EIO});
	struct device *copy;
	uint64_t reads, writes, flushes;
	unsigned char *data = test_bytes(BLOCK, 1);

	ck_ok(device_flip_bit(device, BLOCK + 5, 3));
	ck_ok(device_open_copy(device, &copy));
	faulty_seen(device, &reads, &writes, &flushes);
	ck_assert_uint_eq(reads + writes + flushes, 0);
	ck_ok(device_read(copy, data, BLOCK, BLOCK));
	ck_assert_uint_eq(data[5], 8);
	ck_assert_uint_eq(data[4], 0);
	ck_assert_int_eq(device_flip_bit(device, MIB, 0), -EINVAL);
	free(data);
	device_close(copy);
	device_close(device);
}
END_TEST

static TCase *memory_case(void)
{
	TCase *tests = tcase_create("memory");

	tcase_add_test(tests, device_memory_keeps_blocks_and_starts_with_zeros);
	tcase_add_test(tests, device_memory_of_no_bytes_is_refused);
	tcase_add_test(tests, device_batch_goes_on_past_a_request_out_of_range);
	tcase_add_test(tests, device_copy_has_the_content_and_is_apart);
	tcase_add_test(tests, device_recording_cut_keeps_what_was_flushed);
	tcase_add_test(tests, device_recording_cut_picks_by_seed_any_subset);
	tcase_add_test(tests, device_recording_cut_tears_at_the_unit);
	tcase_add_test(tests, device_recording_restarts_at_the_present_content);
	tcase_add_test(tests, device_recording_takes_a_discard_for_a_write_of_anything);
	tcase_add_test(tests, device_faulty_fails_the_nth_write_only);
	tcase_add_test(tests, device_faulty_fails_all_later_reads_if_sticky);
	tcase_add_test(tests, device_flush_that_failed_fails_for_good);
	tcase_add_test(tests, device_flip_bit_and_copy_are_not_counted);
	return tests;
}

int main(void)
{
	Suite *suite = suite_create("device");

	suite_add_tcase(suite, memory_case());
	suite_add_tcase(suite, test_device_file_case());
	suite_add_tcase(suite, test_device_uring_case());
	return support_run(suite);
}
