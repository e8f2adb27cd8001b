/*
 * Opening and closing through the public interface: files, devices of the program,
 * memory, options, what is refused, and what a crash leaves.
 */
#include "config.h"

#include "tests/unit/test_holt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/support.h"

static char directory[256], path[300];

static void setup(void)
{
	const char *base = getenv("TMPDIR");

	support_log_to_stderr();
	snprintf(directory, sizeof(directory), "%s/holt-open.XXXXXX", base && *base ? base : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/store", directory);
}

static void teardown(void)
{
	ck_ok(holt_close(holt));
	unlink(path);
	ck_ok(rmdir(directory));
}

static struct holt_options options_for(unsigned flags)
{
	struct holt_options options = HOLT_OPTIONS_INIT;

	options.flags = flags | HOLT_NO_THREADS;
	options.volume_bytes = 64 << 20;
	options.journal_bytes = 8 << 20;
	options.cache_bytes = 8 << 20;
	return options;
}

static int open_file(unsigned flags)
{
	struct holt_options options = options_for(flags);

	return holt_open(path, &options, &holt);
}

static int open_beside(unsigned flags)
{
	struct holt_options options = options_for(flags);
	struct holt *other;
	int err = holt_open(path, &options, &other);

	if (!err)
		ck_ok(holt_close(other));
	return err;
}

START_TEST(holt_creates_a_store_when_asked)
{
	struct stat st;

	ck_assert_int_eq(open_file(0), -ENOENT);
	ck_assert_int_eq(open_file(HOLT_READ_ONLY), -ENOENT);
	ck_ok(open_file(HOLT_CREATE | HOLT_EXCLUSIVE));
	ck_ok(put("k", "v"));
	ck_ok(holt_close(holt));
	ck_assert_int_eq(open_file(HOLT_CREATE | HOLT_EXCLUSIVE), -EEXIST);
	ck_ok(stat(path, &st));
	ck_assert_int_eq(st.st_size, 64 << 20);
	ck_ok(open_file(HOLT_CREATE));
	ck_ok(get_is("k", "v"));
}
END_TEST

/* Wrapped: watches out for the directory's. */
int __real_fsync(int fd);
int __wrap_fsync(int fd);
static unsigned directory_syncs;
static int64_t size_at_sync;

int __wrap_fsync(int fd)
{
	struct stat st;

	ck_ok(fstat(fd, &st));
	if (S_ISDIR(st.st_mode) && directory_syncs++ == 0) {
		ck_ok(stat(path, &st));
		size_at_sync = st.st_size;
	}
	return __real_fsync(fd);
}

/* Who dies in between leaves a file that the next creation begins anew. */
START_TEST(holt_makes_its_files_name_durable_first)
{
	directory_syncs = 0;
	ck_ok(open_file(HOLT_CREATE));
	ck_assert_uint_eq(directory_syncs, 1);
	ck_assert_int_eq(size_at_sync, 0);
	ck_ok(holt_close(holt));
	ck_ok(open_file(HOLT_CREATE));
	ck_assert_uint_eq(directory_syncs, 1);
}
END_TEST

START_TEST(holt_leaves_nothing_behind_that_it_could_not_create)
{
	struct holt_options options = options_for(HOLT_CREATE);
	struct stat st;

	options.volume_bytes = 1 << 20;
	ck_assert_int_eq(holt_open(path, &options, &holt), -EINVAL);
	ck_assert_int_eq(stat(path, &st), -1);
	ck_assert_int_eq(holt_open("/nonexistent/directory/store", &options, &holt), -EINVAL);
	options.volume_bytes = 0;
	ck_assert_int_eq(holt_open("/nonexistent/directory/store", &options, &holt), -ENOENT);
}
END_TEST

START_TEST(holt_creates_again_what_was_not_finished)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	/* What a creation leaves that dies before the superblocks. */
	ck_ok(ftruncate(fd, 64 << 20));
	ck_assert_int_eq(pwrite(fd, "journal", 7, 1 << 20), 7);
	close(fd);
	ck_assert_int_eq(open_file(0), -EMEDIUMTYPE);
	ck_ok(open_file(HOLT_CREATE));
	ck_ok(put("k", "v"));
}
END_TEST

START_TEST(holt_refuses_what_is_no_store)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	ck_assert_int_eq(write(fd, "text", 4), 4);
	ck_assert_int_eq(open_file(0), -EMEDIUMTYPE);
	ck_assert_int_eq(open_file(HOLT_CREATE), -EMEDIUMTYPE);
	ck_ok(ftruncate(fd, 64 << 20));
	ck_assert_int_eq(open_file(HOLT_CREATE), -EMEDIUMTYPE);
	close(fd);
	ck_assert_int_eq(holt_open(directory, NULL, &holt), -EMEDIUMTYPE);
}
END_TEST

START_TEST(holt_refuses_options_that_mean_nothing)
{
	struct holt_options options = options_for(HOLT_CREATE);
	struct holt_options bad[] = {options, options, options, options, options, options, options};
	static const char label[] = "a label of sixty-four bytes is longer than a volume has room for";
	struct {
		struct holt_options options;
		uint64_t later;
	} grown = {.options = options};

	bad[0].flags |= 1u << 30;
	bad[1].flags = HOLT_EXCLUSIVE;
	bad[2].flags = HOLT_CREATE | HOLT_READ_ONLY;
	bad[3].durability = (enum holt_durability)9;
	bad[4].checkpoint_dirty_percent = 76;
	bad[5].label = label;
	bad[6].struct_bytes = 4;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(holt_open(path, &bad[i], &holt), -EINVAL);
	/* A later version's structure will do as long as what is new in it is 0. */
	grown.options.struct_bytes = sizeof(grown);
	grown.later = 1;
	ck_assert_int_eq(holt_open(path, &grown.options, &holt), -EINVAL);
	ck_assert_int_eq(access(path, F_OK), -1);
	ck_assert_int_eq(holt_open(NULL, &options, &holt), -EINVAL);
	ck_assert_int_eq(holt_open(path, &options, NULL), -EINVAL);
	grown.later = 0;
	ck_ok(holt_open(path, &grown.options, &holt));
}
END_TEST

START_TEST(holt_options_of_an_earlier_version_have_fewer_fields)
{
	struct holt_options options = options_for(HOLT_CREATE);

	options.struct_bytes = offsetof(struct holt_options, checkpoint_dirty_percent);
	options.checkpoint_dirty_percent = 99;
	ck_ok(holt_open(path, &options, &holt));
}
END_TEST

START_TEST(holt_has_one_writer_or_several_readers)
{
	struct holt *reader;
	struct holt_options options = options_for(HOLT_READ_ONLY);

	ck_ok(open_file(HOLT_CREATE));
	ck_ok(put("k", "v"));
	ck_assert_int_eq(open_beside(0), -EBUSY);
	ck_assert_int_eq(open_beside(HOLT_READ_ONLY), -EBUSY);
	ck_ok(holt_close(holt));
	ck_ok(holt_open(path, &options, &reader));
	ck_assert_int_eq(open_beside(0), -EBUSY);
	ck_ok(open_file(HOLT_READ_ONLY));
	ck_ok(get_is("k", "v"));
	ck_ok(holt_close(reader));
}
END_TEST

START_TEST(holt_read_only_stores_do_not_change)
{
	struct holt_batch *batch;

	ck_ok(open_file(HOLT_CREATE));
	ck_ok(put("k", "v"));
	ck_ok(holt_close(holt));
	ck_ok(open_file(HOLT_READ_ONLY));
	ck_assert_int_eq(put("k", "w"), -EROFS);
	ck_assert_int_eq(holt_delete(holt, S("k")), -EROFS);
	ck_assert_int_eq(holt_rename(holt, S("k"), S("l"), 0), -EROFS);
	ck_assert_int_eq(holt_move_prefix(holt, S("k"), S("l")), -EROFS);
	ck_assert_int_eq(holt_checkpoint(holt), -EROFS);
	ck_ok(holt_batch_create(holt, &batch));
	holt_batch_put(batch, S("k"), S("w"));
	ck_assert_int_eq(holt_batch_commit(batch, HOLT_DEFAULT), -EROFS);
	holt_batch_destroy(batch);
	ck_ok(get_is("k", "v"));
	ck_ok(holt_error(holt));
}
END_TEST

/* Puts keys until it is killed, one number after the other into the pipe. */
static void run_victim(int fd, enum holt_durability durability)
{
	struct holt_options options = options_for(HOLT_CREATE);
	char key[32];

	options.durability = durability;
	if (holt_open(path, &options, &holt))
		_exit(1);
	for (unsigned i = 0;; i++) {
		sprintf(key, "key %08u", i);
		if (put(key, "value") || write(fd, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

static unsigned kill_victim(enum holt_durability durability)
{
	unsigned last = 0, number;
	int pipes[2], status;
	pid_t child;

	ck_ok(pipe(pipes));
	child = fork();
	if (child == 0)
		run_victim(pipes[1], durability);
	close(pipes[1]);
	while (last < 2000 && read(pipes[0], &number, sizeof(number)) == sizeof(number))
		last = number;
	ck_ok(kill(child, SIGKILL));
	while (read(pipes[0], &number, sizeof(number)) == sizeof(number))
		last = number;
	close(pipes[0]);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	return last;
}

START_TEST(holt_put_survives_the_death_of_the_process)
{
	enum holt_durability levels[] = {HOLT_DEFAULT, HOLT_SYNC};
	unsigned last = kill_victim(levels[_i]);
	char key[32];

	ck_ok(open_file(0));
	for (unsigned i = 0; i <= last; i++) {
		sprintf(key, "key %08u", i);
		ck_ok(get_is(key, "value"));
	}
	sprintf(key, "key %08u", last + 2);
	ck_assert_int_eq(get_is(key, "value"), -ENOENT);
}
END_TEST

START_TEST(holt_works_with_threads_and_either_io)
{
	struct holt_options options = options_for(HOLT_CREATE);
	enum holt_io io[] = {HOLT_IO_DEFAULT, HOLT_IO_URING, HOLT_IO_SYNC};

	options.flags = HOLT_CREATE;
	options.io = io[_i];
	options.label = "sixty-three bytes are a label as long as there can be, this one";
	options.checkpoint_idle_ms = UINT32_MAX;
	options.checkpoint_dirty_percent = 10;
	ck_ok(holt_open(path, &options, &holt));
	for (unsigned i = 0; i < 20000; i++) {
		char key[32];

		sprintf(key, "key %08u", i);
		ck_ok(put(key, "value"));
	}
	ck_ok(holt_sync(holt, HOLT_SYNC));
	ck_ok(holt_checkpoint(holt));
	ck_ok(get_is("key 00012345", "value"));
}
END_TEST

/* ---- memory ------------------------------------------------------------------------- */

START_TEST(holt_memory_stores_need_no_file)
{
	struct holt_options options = {.struct_bytes = sizeof(options), .cache_bytes = 8 << 20};
	static char value[4096];
	char key[32];
	int err = 0;
	unsigned puts = 0;

	ck_ok(holt_open_memory(&options, &holt));
	ck_ok(put("a/1", "v"));
	ck_ok(holt_move_prefix(holt, S("a/"), S("b/")));
	ck_ok(holt_sync(holt, HOLT_SYNC));
	ck_assert_str_eq(list_all(), "b/1=v");
	while (!err && puts < 10000) {
		sprintf(key, "key %08u", puts++);
		err = holt_put(holt, key, strlen(key), value, sizeof(value));
	}
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_int_eq(get_is(key, ""), -ENOENT);
	ck_ok(get_is("b/1", "v"));
	options.flags = HOLT_READ_ONLY;
	ck_assert_int_eq(holt_open_memory(&options, &holt), -EINVAL);
	ck_assert_int_eq(holt_open_memory(NULL, NULL), -EINVAL);
}
END_TEST

/* ---- devices -------------------------------------------------------------------------- */

START_TEST(holt_lives_on_a_device_of_the_program)
{
	ck_ok(put("k", "v"));
	ck_ok(holt_sync(holt, HOLT_SYNC));
	ck_assert_uint_gt(disk.writes, 0);
	ck_assert_uint_gt(disk.flushes, 0);
	ck_assert_int_eq(disk.closes, 0);
	holt_reopen();
	ck_assert_int_eq(disk.closes, 1);
	ck_ok(get_is("k", "v"));
}
END_TEST

START_TEST(holt_refuses_impossible_devices)
{
	struct holt_device bad[] = {disk_device, disk_device, disk_device, disk_device, disk_device};
	struct holt_options none = disk_options, exclusive = disk_options;
	struct holt *other;

	bad[0].read = NULL;
	bad[1].write = NULL;
	bad[2].flush = NULL;
	bad[3].bytes = 4096;
	bad[4].bytes -= 1;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(holt_open_device(&bad[i], &disk_options, &other), -EINVAL);
	ck_assert_int_eq(holt_open_device(NULL, &disk_options, &other), -EINVAL);
	ck_ok(holt_close(holt));
	exclusive.flags |= HOLT_EXCLUSIVE;
	ck_assert_int_eq(holt_open_device(&disk_device, &exclusive, &other), -EEXIST);
	ck_assert_int_eq(disk.closes, 1);
	memset(disk.bytes, 0, disk_device.bytes);
	none.flags = 0;
	ck_assert_int_eq(holt_open_device(&disk_device, &none, &other), -EMEDIUMTYPE);
	ck_assert_int_eq(disk.closes, 1);
	ck_ok(holt_open_device(&disk_device, &exclusive, &holt));
}
END_TEST

START_TEST(holt_without_discard_works_too)
{
	struct holt_device device = disk_device;

	ck_ok(holt_close(holt));
	device.discard = NULL;
	device.close = NULL;
	ck_ok(holt_open_device(&device, &disk_options, &holt));
	ck_ok(put("k", "v"));
	ck_ok(holt_compact(holt, NULL, 0, NULL, NULL));
}
END_TEST

START_TEST(holt_turns_read_only_when_the_journal_fails)
{
	ck_ok(put("k", "v"));
	ck_ok(holt_sync(holt, HOLT_SYNC));
	disk.fail_flush_at = 1;
	ck_assert_int_eq(holt_sync(holt, HOLT_SYNC), 0);
	ck_ok(put("l", "v"));
	ck_assert_int_eq(holt_sync(holt, HOLT_SYNC), -EIO);
	ck_assert_int_eq(holt_error(holt), -EIO);
	disk.fail_flush_at = 0;
	ck_assert_int_eq(put("m", "v"), -EROFS);
	ck_ok(get_is("k", "v"));
	ck_assert_int_eq(holt_close(holt), -EIO);
	ck_ok(holt_open_device(&disk_device, &disk_options, &holt));
	ck_ok(get_is("k", "v"));
	ck_assert_int_eq(get_is("m", "v"), -ENOENT);
}
END_TEST

/* ---- messages --------------------------------------------------------------------------- */

static int messages;

static void count_message(void *ctx, int level, const char *message)
{
	ck_assert_ptr_eq(ctx, &messages);
	ck_assert_int_ge(level, 0);
	ck_assert_int_le(level, 3);
	ck_assert_uint_gt(strlen(message), 0);
	messages++;
}

START_TEST(holt_messages_go_where_the_program_wants)
{
	holt_set_log(count_message, &messages);
	disk.fail_flush_at = 1;
	ck_ok(put("k", "v"));
	ck_assert_int_eq(holt_sync(holt, HOLT_SYNC), -EIO);
	ck_assert_int_gt(messages, 0);
	disk.fail_flush_at = 0;
	messages = 0;
	holt_set_log(NULL, NULL);
	ck_assert_int_eq(holt_close(holt), -EIO);
	ck_assert_int_eq(messages, 0);
	ck_ok(holt_open_device(&disk_device, &disk_options, &holt));
}
END_TEST

START_TEST(holt_version_is_the_headers)
{
	char version[32];

	sprintf(version, "%d.%d.%d", HOLT_VERSION_MAJOR, HOLT_VERSION_MINOR, HOLT_VERSION_PATCH);
	ck_assert_str_eq(holt_version(), version);
}
END_TEST

static void add_files(Suite *suite)
{
	TCase *tcase = tcase_create("files");

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, holt_creates_a_store_when_asked);
	tcase_add_test(tcase, holt_makes_its_files_name_durable_first);
	tcase_add_test(tcase, holt_leaves_nothing_behind_that_it_could_not_create);
	tcase_add_test(tcase, holt_creates_again_what_was_not_finished);
	tcase_add_test(tcase, holt_refuses_what_is_no_store);
	tcase_add_test(tcase, holt_refuses_options_that_mean_nothing);
	tcase_add_test(tcase, holt_options_of_an_earlier_version_have_fewer_fields);
	tcase_add_test(tcase, holt_has_one_writer_or_several_readers);
	tcase_add_test(tcase, holt_read_only_stores_do_not_change);
	tcase_add_loop_test(tcase, holt_put_survives_the_death_of_the_process, 0, 2);
	tcase_add_loop_test(tcase, holt_works_with_threads_and_either_io, 0, 3);
	tcase_add_test(tcase, holt_memory_stores_need_no_file);
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	Suite *suite = suite_create("holt_open");
	TCase *tcase = tcase_create("devices");

	add_files(suite);
	tcase_add_checked_fixture(tcase, holt_setup, holt_teardown);
	tcase_add_test(tcase, holt_lives_on_a_device_of_the_program);
	tcase_add_test(tcase, holt_refuses_impossible_devices);
	tcase_add_test(tcase, holt_without_discard_works_too);
	tcase_add_test(tcase, holt_turns_read_only_when_the_journal_fails);
	tcase_add_test(tcase, holt_messages_go_where_the_program_wants);
	tcase_add_test(tcase, holt_version_is_the_headers);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
