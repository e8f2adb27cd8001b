/*
 * Goal: a volume in a file is opened, locked, measured, allocated and discarded as
 * device.h says, by each way of I/O.
 * Method: files in the temporary directory; other holders are other descriptors,
 * threads and processes.
 */
#include "config.h"

#include "tests/unit/test_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "device/device_test.h"
#include "tests/support/support.h"

static const enum device_io all_io[] = {DEVICE_IO_SYNC, DEVICE_IO_URING, DEVICE_IO_AUTO};
#define IO_COUNT 3

static char file_path[4096];

static void remove_file(void)
{
	unlink(file_path);
}

const char *test_file(uint64_t bytes)
{
	const char *directory = getenv("TMPDIR");
	int fd;

	snprintf(file_path, sizeof(file_path), "%s/test_device_XXXXXX",
	    directory ? directory : "/tmp");
	fd = mkstemp(file_path);
	ck_assert_int_ge(fd, 0);
	atexit(remove_file);
	ck_ok(ftruncate(fd, (off_t)bytes));
	close(fd);
	return file_path;
}

struct device *test_open(const char *path, enum device_io io)
{
	const struct device_options options = {.io = io};
	struct device *device;

	ck_ok(device_open(path, &options, &device));
	return device;
}

void test_drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	ck_ok(syscall(SYS_capset, &header, none));
}

static int open_error(const char *path, const struct device_options *options)
{
	struct device *device = NULL;
	int err = device_open(path, options, &device);

	if (err == 0)
		device_close(device);
	else
		ck_assert_ptr_null(device);
	return err;
}

START_TEST(device_file_keeps_blocks_over_reopen)
{
	const char *path = test_file(4 * MIB + 1000);
	struct device *device = test_open(path, all_io[_i]);

	ck_assert_uint_eq(device_bytes(device), 4 * MIB);
	ck_assert(!device_is_read_only(device));
	test_put(device, 1023, 5);
	ck_ok(device_flush(device));
	device_close(device);
	device = test_open(path, all_io[_i]);
	ck_assert_int_eq(test_get(device, 1023), 5);
	ck_assert_int_eq(test_get(device, 1022), 0);
	device_close(device);
}
END_TEST

START_TEST(device_that_is_no_volume_is_refused)
{
	const struct device_options options = {.io = DEVICE_IO_SYNC};
	const char *path = test_file(512 * 1024 - 1);
	char fifo[4200];

	ck_assert_int_eq(open_error(path, &options), -EINVAL);
	ck_assert_int_eq(open_error("/", &options), -EINVAL);
	ck_assert_int_eq(open_error("/dev/null", &options), -EINVAL);
	snprintf(fifo, sizeof(fifo), "%s.fifo", path);
	ck_ok(mkfifo(fifo, 0600));
	ck_assert_int_eq(open_error(fifo, &options), -EINVAL);
	unlink(fifo);
	ck_assert_int_eq(open_error(fifo, &options), -ENOENT);
}
END_TEST

START_TEST(device_in_use_is_refused)
{
	const struct device_options write = {.io = DEVICE_IO_SYNC};
	const struct device_options read = {.io = DEVICE_IO_SYNC, .is_read_only = true};
	const char *path = test_file(MIB);
	struct device *first;
	struct device *second;

	first = test_open(path, DEVICE_IO_SYNC);
	ck_assert_int_eq(open_error(path, &write), -EBUSY);
	ck_assert_int_eq(open_error(path, &read), -EBUSY);
	device_close(first);
	ck_ok(device_open(path, &read, &first));
	ck_ok(device_open(path, &read, &second));
	ck_assert_int_eq(open_error(path, &write), -EBUSY);
	device_close(first);
	device_close(second);
	ck_ok(open_error(path, &write));
}
END_TEST

static void *unlock_later(void *fd)
{
	const struct timespec pause = {.tv_nsec = 50000000};

	nanosleep(&pause, NULL);
	ck_ok(flock(*(int *)fd, LOCK_UN));
	return NULL;
}

START_TEST(device_open_waits_for_the_lock)
{
	const struct device_options options = {.lock_wait_ms = 60000};
	const char *path = test_file(MIB);
	int fd = open(path, O_RDONLY);
	pthread_t thread;

	ck_ok(flock(fd, LOCK_EX));
	ck_ok(pthread_create(&thread, NULL, unlock_later, &fd));
	ck_ok(open_error(path, &options));
	ck_ok(pthread_join(thread, NULL));
	close(fd);
}
END_TEST

START_TEST(device_close_frees_the_lock_at_once)
{
	const char *path = test_file(MIB);

	for (unsigned i = 0; i < 30; i++) {
		struct device *device = test_open(path, DEVICE_IO_URING);
		void *data = test_bytes(BLOCK, 3);
		struct device_request request = {.op = DEVICE_WRITE,
		    .slot = DEVICE_NO_SLOT, .data = data, .bytes = BLOCK};
		struct device_batch batch;

		device_batch_init(&batch);
		device_submit(device, &batch, &request, 1);
		ck_ok(device_wait(device, &batch));
		device_close(device);
		free(data);
	}
}
END_TEST

START_TEST(device_read_only_refuses_every_change)
{
	const struct device_options options = {.io = all_io[_i], .is_read_only = true};
	const char *path = test_file(MIB);
	void *data = test_bytes(BLOCK, 1);
	struct device *device;

	ck_ok(device_open(path, &options, &device));
	ck_assert(device_is_read_only(device));
	ck_assert_int_eq(device_write(device, data, BLOCK, 0), -EROFS);
	ck_assert_int_eq(device_allocate(device, 0, BLOCK), -EROFS);
	ck_assert_int_eq(device_discard(device, 0, BLOCK), -EROFS);
	ck_ok(device_flush(device));
	ck_assert_int_eq(test_get(device, 0), 0);
	device_close(device);
	free(data);
}
END_TEST

/* In a child. */
static void open_without_powers(const char *path)
{
	const struct device_options write = {.io = DEVICE_IO_SYNC};
	const struct device_options read = {.io = DEVICE_IO_SYNC, .is_read_only = true};
	bool is_right;

	test_drop_capabilities();
	is_right = open_error(path, &write) == -EROFS && open_error(path, &read) == 0;
	_exit(is_right ? 0 : 1);
}

START_TEST(device_read_only_file_opened_for_writing_is_erofs)
{
	const char *path = test_file(MIB);
	int status;
	pid_t child;

	ck_ok(chmod(path, 0444));
	child = fork();
	if (child == 0)
		open_without_powers(path);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(device_read_past_the_end_of_a_cut_file_is_eio)
{
	const char *path = test_file(MIB);
	struct device *device = test_open(path, all_io[_i]);
	void *data = test_bytes(2 * BLOCK, 1);
	struct device_request request = {.slot = DEVICE_NO_SLOT, .data = data,
	    .bytes = 2 * BLOCK, .offset = MIB / 2 - BLOCK};
	struct device_batch batch;

	ck_ok(truncate(path, MIB / 2));
	device_batch_init(&batch);
	device_submit(device, &batch, &request, 1);
	ck_assert_int_eq(device_wait(device, &batch), -EIO);
	ck_assert_int_eq(request.result, -EIO);
	ck_assert_int_eq(device_read(device, data, BLOCK, MIB / 2), -EIO);
	ck_ok(device_read(device, data, BLOCK, 0));
	free(data);
	device_close(device);
}
END_TEST

static uint64_t blocks_used(const char *path)
{
	struct stat st;

	ck_ok(stat(path, &st));
	return (uint64_t)st.st_blocks * 512;
}

START_TEST(device_allocate_and_discard_reach_the_host)
{
	const char *path = test_file(4 * MIB);
	struct device *device = test_open(path, DEVICE_IO_SYNC);
	int err;

	ck_ok(device_allocate(device, MIB, 2 * MIB));
	ck_assert_uint_ge(blocks_used(path), 2 * MIB);
	err = device_discard(device, MIB, 2 * MIB);
	ck_assert(err == 0 || err == -EOPNOTSUPP);
	if (err == 0)
		ck_assert_uint_lt(blocks_used(path), MIB);
	ck_assert_int_eq(device_allocate(device, 4 * MIB, BLOCK), -EINVAL);
	ck_assert_int_eq(device_discard(device, BLOCK, 4 * MIB), -EINVAL);
	device_close(device);
	ck_assert_uint_le(blocks_used(path), 4 * MIB);
}
END_TEST

START_TEST(device_copy_and_bit_flip_work_on_a_file)
{
	const char *path = test_file(MIB + BLOCK);
	struct device *device = test_open(path, DEVICE_IO_SYNC);
	struct device *copy;

	test_put(device, 256, 6);
	ck_ok(device_open_copy(device, &copy));
	ck_ok(device_flip_bit(device, 256 * BLOCK + 1, 0));
	ck_assert_int_eq(test_get(copy, 256), 6);
	ck_assert_int_eq(test_get(device, 256), -1);
	ck_ok(device_flip_bit(device, 256 * BLOCK, 8));
	ck_assert_int_eq(test_get(device, 256), 6);
	device_close(device);
	device_close(copy);
}
END_TEST

START_TEST(device_opened_before_a_fork_works_after)
{
	const char *path = test_file(MIB);
	struct device *device = test_open(path, all_io[_i]);
	int status;
	pid_t child = fork();

	if (child == 0) {
		void *data = test_bytes(BLOCK, 8);
		struct device_request request = {.op = DEVICE_WRITE,
		    .slot = DEVICE_NO_SLOT, .data = data, .bytes = BLOCK};
		struct device_batch batch;

		device_batch_init(&batch);
		device_submit(device, &batch, &request, 1);
		_exit(device_wait(device, &batch) == 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(test_get(device, 0), 8);
	device_close(device);
}
END_TEST

TCase *test_device_file_case(void)
{
	TCase *tests = tcase_create("file");

	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, device_file_keeps_blocks_over_reopen, 0, IO_COUNT);
	tcase_add_test(tests, device_that_is_no_volume_is_refused);
	tcase_add_test(tests, device_in_use_is_refused);
	tcase_add_test(tests, device_open_waits_for_the_lock);
	tcase_add_test(tests, device_close_frees_the_lock_at_once);
	tcase_add_loop_test(tests, device_read_only_refuses_every_change, 0, IO_COUNT);
	tcase_add_test(tests, device_read_only_file_opened_for_writing_is_erofs);
	tcase_add_loop_test(tests, device_read_past_the_end_of_a_cut_file_is_eio, 0, IO_COUNT);
	tcase_add_test(tests, device_allocate_and_discard_reach_the_host);
	tcase_add_test(tests, device_copy_and_bit_flip_work_on_a_file);
	tcase_add_loop_test(tests, device_opened_before_a_fork_works_after, 0, IO_COUNT);
	return tests;
}
