/*
 * Goal: every back end keeps the contract of device.h and device_test.h.
 * Method: write patterns that tell block and generation, read them back; cut the
 * power of a recording device at each event; fail each operation of a faulty one;
 * real files in a temporary directory for the file back ends.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/device.h"
#include "device/device_test.h"
#include "tests/support/support.h"

#define BLOCK 4096u
#define MIB (1024u * 1024)

static char *block_of(unsigned char byte)
{
	char *data = aligned_alloc(BLOCK, BLOCK);

	ck_assert_ptr_nonnull(data);
	memset(data, byte, BLOCK);
	return data;
}

static void put(struct device *device, uint64_t block, unsigned char byte)
{
	char *data = block_of(byte);

	ck_ok(device_write(device, data, BLOCK, block * BLOCK));
	free(data);
}

/* The block's byte; -1 when its bytes differ. */
static int get(struct device *device, uint64_t block)
{
	unsigned char *data = (unsigned char *)block_of(0xee);
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
	ck_assert_int_eq(get(device, 1023), 0);
	put(device, 3, 7);
	ck_assert_int_eq(get(device, 3), 7);
	ck_assert_int_eq(get(device, 4), 0);
	ck_ok(device_flush(device));
	device_counters(device, &counters);
	ck_assert_uint_eq(counters.reads, 3);
	ck_assert_uint_eq(counters.write_bytes, BLOCK);
	ck_assert_uint_eq(counters.flushes, 1);
	device_close(device);
}
END_TEST

START_TEST(device_recording_cut_keeps_what_was_flushed)
{
	struct device *device;
	struct device *after;

	ck_ok(device_open_recording(MIB, &device));
	put(device, 0, 1);
	ck_ok(device_flush(device));
	put(device, 0, 2);
	put(device, 1, 3);
	ck_assert_uint_eq(recording_event_count(device), 4);
	ck_assert(recording_event_is_flush(device, 1));
	ck_ok(recording_cut(device, 4, 0, RECORDING_WHOLE, &after));
	ck_assert_int_eq(get(after, 0), 1);
	ck_assert_int_eq(get(after, 1), 0);
	device_close(after);
	ck_ok(recording_cut(device, 3, UINT64_MAX, RECORDING_WHOLE, &after));
	ck_assert_int_eq(get(after, 0), 2);
	ck_assert_int_eq(get(after, 1), 0);
	device_close(after);
	device_close(device);
}
END_TEST

START_TEST(device_faulty_fails_the_nth_write_only)
{
	const struct faulty_plan plan = {.fail_write_at = 2, .error = -ENOSPC};
	struct device *device;
	struct device *inner;
	char *data = block_of(9);

	ck_ok(device_open_memory(MIB, &inner));
	ck_ok(device_open_faulty(inner, &device));
	faulty_set_plan(device, &plan);
	ck_ok(device_write(device, data, BLOCK, 0));
	ck_assert_int_eq(device_write(device, data, BLOCK, BLOCK), -ENOSPC);
	ck_ok(device_write(device, data, BLOCK, 2 * BLOCK));
	ck_assert_int_eq(get(device, 1), 0);
	free(data);
	device_close(device);
}
END_TEST

START_TEST(device_file_keeps_blocks_over_reopen)
{
	struct device_options options = {.io = DEVICE_IO_SYNC};
	char path[] = "/tmp/test_device_XXXXXX";
	int fd = mkstemp(path);
	struct device *device;
	struct device *second;

	ck_ok(ftruncate(fd, MIB));
	close(fd);
	ck_ok(device_open(path, &options, &device));
	ck_assert_int_eq(device_open(path, &options, &second), -EBUSY);
	put(device, 5, 5);
	ck_ok(device_flush(device));
	device_close(device);
	ck_ok(device_open(path, &options, &device));
	ck_assert_int_eq(get(device, 5), 5);
	device_close(device);
	unlink(path);
}
END_TEST

static Suite *device_suite(void)
{
	Suite *suite = suite_create("device");
	TCase *tests = tcase_create("device");

	tcase_add_test(tests, device_memory_keeps_blocks_and_starts_with_zeros);
	tcase_add_test(tests, device_recording_cut_keeps_what_was_flushed);
	tcase_add_test(tests, device_faulty_fails_the_nth_write_only);
	tcase_add_test(tests, device_file_keeps_blocks_over_reopen);
	suite_add_tcase(suite, tests);
	return suite;
}

int main(void)
{
	return support_run(device_suite());
}
