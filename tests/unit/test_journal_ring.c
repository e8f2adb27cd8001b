/*
 * The ring: full, in shared memory, left behind by a dead process.
 *
 * Method: death is a journal closed as not clean, or a child that appends and
 * leaves with _exit(); the reader then continues from the ring, or refuses it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "journal/journal_ring.h"
#include "tests/support/support.h"
#include "tests/unit/journal_model.h"

#define LOG_BYTES (1024u * 1024)
#define RING_BYTES (256u * 1024)
#define START (3ull * BLOCK_BYTES)

static struct model model;

static void setup(void)
{
	struct device *device;

	ck_ok(device_open_memory(MODEL_OFFSET + LOG_BYTES + FRAME_BYTES, &device));
	model_open_shared(&model, device, LOG_BYTES, START);
	ck_assert_msg(journal_is_shared(model.journal), "these tests need /dev/shm");
}

static void teardown(void)
{
	journal_forget_ring(model.options.place.uuid);
	model_destroy(&model);
}

static const char *ring_file(void)
{
	static char path[64];
	int at = snprintf(path, sizeof(path), "/dev/shm/holtfs-");

	for (int i = 0; i < UUID_BYTES; i++)
		at += snprintf(path + at, sizeof(path) - (size_t)at, "%02x",
		    model.options.place.uuid[i]);
	return path;
}

START_TEST(ring_full_append_writes_older_blocks)
{
	struct device_counters before, after;
	lsn_t end;

	device_counters(model.options.place.device, &before);
	while (journal_end(model.journal) < START + 3 * RING_BYTES)
		model_append(&model);
	device_counters(model.options.place.device, &after);
	ck_assert_uint_gt(after.writes, before.writes);
	ck_assert_uint_eq(after.flushes, before.flushes);
	ck_ok(journal_sync(model.journal, journal_end(model.journal), JOURNAL_SYNC));
	journal_forget_ring(model.options.place.uuid);
	ck_assert_uint_eq(model_read(&model, START, 0, &end), model.next);
	ck_assert_uint_eq(end, journal_end(model.journal));
}
END_TEST

/* The ring ends 16 bytes after the record, the PAD of a cut is longer than a block. */
START_TEST(ring_full_append_leaves_room_for_a_cut)
{
	const uint32_t overhead = sizeof(struct journal_record);
	lsn_t end;

	while (journal_end(model.journal) < START + RING_BYTES - 10000)
		model_append_zeros(&model, 1000);
	model_append_zeros(&model,
	    (uint32_t)(START + RING_BYTES - 16 - overhead - journal_end(model.journal)));
	ck_assert_uint_eq(journal_end(model.journal), START + RING_BYTES - 16);
	end = journal_cut(model.journal);
	ck_assert_uint_eq(end, START + RING_BYTES + BLOCK_BYTES);
	ck_ok(journal_sync(model.journal, end, JOURNAL_SYNC));
}
END_TEST

START_TEST(ring_takes_the_longest_record_at_any_fill)
{
	uint32_t max = journal_body_max(model.journal);
	uint64_t count, appended = 0;
	lsn_t end;

	ck_assert_uint_ge(max + 64, RING_BYTES / 2);
	for (uint32_t i = 0; i < 5; i++) {
		model_append_zeros(&model, 3000 * i + 8 * i);
		model_append_zeros(&model, max);
		appended += 2;
	}
	ck_ok(journal_sync(model.journal, journal_end(model.journal), JOURNAL_SYNC));
	model_close(&model, true);
	ck_ok(model_read_any(&model.options.place, START, 7, &count, &end));
	ck_assert_uint_eq(count, appended);
	model_reopen(&model, end);
}
END_TEST

/* Some written, among them half a record; the rest in the ring only. */
START_TEST(ring_of_dead_journal_continues_the_log)
{
	lsn_t end, log_end;

	while (journal_end(model.journal) < START + 2 * RING_BYTES + 5000)
		model_append(&model);
	log_end = journal_end(model.journal);
	model_close(&model, false);
	ck_assert_uint_eq(model_read(&model, START, 0, &end), model.next);
	ck_assert_uint_eq(end, log_end);
	journal_forget_ring(model.options.place.uuid);
	ck_assert_uint_lt(model_read(&model, START, 0, &end), model.next);
	ck_assert_uint_lt(end, log_end);
	model_reopen(&model, round_up(log_end, BLOCK_BYTES));
}
END_TEST

/* Also across the end of the log's place. */
START_TEST(ring_settled_on_the_device_is_not_needed_any_more)
{
	struct journal_extent extent;
	lsn_t from, log_end;

	while (journal_end(model.journal) < START + 3 * RING_BYTES + 5000)
		model_append(&model);
	from = journal_cut(model.journal);
	ck_ok(journal_sync(model.journal, from, JOURNAL_SYNC));
	journal_set_tail(model.journal, from);
	while (journal_end(model.journal) < START + LOG_BYTES + 5000)
		model_append(&model);
	log_end = journal_end(model.journal);
	model_close(&model, false);
	ck_ok(journal_survey(&model.options.place, from, 7, NULL, NULL, &extent));
	ck_assert_uint_eq(extent.end, log_end);
	ck_ok(journal_settle(&model.options.place, &extent, 7));
	journal_forget_ring(model.options.place.uuid);
	ck_ok(journal_survey(&model.options.place, from, 7, NULL, NULL, &extent));
	ck_assert_uint_eq(extent.end, log_end);
	ck_ok(journal_settle(&model.options.place, &extent, 7));
	model_reopen(&model, round_up(log_end, BLOCK_BYTES));
}
END_TEST

/* At every record: nothing lost, whatever had been written by then. */
START_TEST(ring_and_disk_together_never_lose_a_record)
{
	uint64_t seed = support_seed(21), first = 0;
	lsn_t from = START;

	for (int i = 0; i < 400; i++) {
		struct model_position position = model_append(&model);
		lsn_t end;

		ck_ok(journal_sync(model.journal, position.end, JOURNAL_PROCESS));
		if (support_random_below(&seed, 20) == 0)
			ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
		if (support_random_below(&seed, 40) == 0) {
			from = journal_cut(model.journal);
			journal_set_tail(model.journal, from);
			first = model.next;
		}
		ck_assert_uint_eq(model_read(&model, from, first, &end), model.next - first);
		ck_assert_uint_eq(end, journal_end(model.journal));
	}
}
END_TEST

START_TEST(ring_outlives_a_killed_process)
{
	int status;
	pid_t child;

	model_append(&model);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		for (int i = 0; i < 50; i++)
			model_append(&model);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(model_read(&model, START, 0, NULL), 51);
}
END_TEST

START_TEST(ring_is_gone_after_clean_close)
{
	model_append(&model);
	ck_ok(access(ring_file(), F_OK));
	model_close(&model, true);
	ck_assert_int_eq(access(ring_file(), F_OK), -1);
	ck_assert_uint_eq(model_read(&model, START, 0, NULL), 0);
	model_reopen(&model, START);
}
END_TEST

START_TEST(ring_is_not_taken_for_another_open)
{
	uint64_t count;
	lsn_t end;

	model_append(&model);
	model_close(&model, false);
	ck_ok(model_read_any(&model.options.place, START, 8, &count, &end));
	ck_assert_uint_eq(count, 0);
	ck_ok(model_read_any(&model.options.place, START, 7, &count, &end));
	ck_assert_uint_eq(count, 1);
	/* A checkpoint past all it holds: it has nothing to say. */
	ck_ok(model_read_any(&model.options.place, START + LOG_BYTES, 7, &count, &end));
	ck_assert_uint_eq(count, 0);
	/* The next open replaces it. */
	model.options.open_id = 8;
	model_reopen(&model, START + LOG_BYTES);
	ck_assert_uint_eq(model_read(&model, START + LOG_BYTES, 0, NULL), 0);
	ck_ok(model_read_any(&model.options.place, START, 7, &count, &end));
	ck_assert_uint_eq(count, 0);
}
END_TEST

static void change_ring_file(off_t offset, uint8_t mask)
{
	int fd = open(ring_file(), O_RDWR);
	uint8_t byte;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
	byte ^= mask;
	ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
}

static uint64_t records_found(void)
{
	uint64_t count;
	lsn_t end;

	ck_ok(model_read_any(&model.options.place, START, 7, &count, &end));
	return count;
}

START_TEST(ring_of_another_boot_or_volume_is_not_taken)
{
	static const off_t fields[] = {
	    offsetof(struct journal_ring_header, magic),
	    offsetof(struct journal_ring_header, version),
	    offsetof(struct journal_ring_header, bytes),
	    offsetof(struct journal_ring_header, boot_id) + 5,
	    offsetof(struct journal_ring_header, uuid) + 5,
	    offsetof(struct journal_ring_header, open_id),
	    offsetof(struct journal_ring_header, written), /* not aligned */
	    offsetof(struct journal_ring_header, written) + 6, /* past the end */
	};

	model_append(&model);
	model_close(&model, false);
	for (unsigned i = 0; i < ARRAY_COUNT(fields); i++) {
		ck_assert_uint_eq(records_found(), 1);
		change_ring_file(fields[i], 1);
		ck_assert_uint_eq(records_found(), 0);
		change_ring_file(fields[i], 1);
	}
	model_reopen(&model, START);
}
END_TEST

START_TEST(ring_records_are_verified)
{
	struct model_position position;

	for (int i = 0; i < 10; i++)
		position = model_append(&model);
	model_append_zeros(&model, 10);
	model_close(&model, false);
	change_ring_file((off_t)(RING_HEADER_BYTES + (position.end & (RING_BYTES - 1)) + 30), 1);
	ck_assert_uint_eq(model_read(&model, START, 0, NULL), 10);
	model_reopen(&model, START);
}
END_TEST

START_TEST(ring_file_of_doubtful_origin_is_not_taken)
{
	char other[80];

	model_append(&model);
	model_close(&model, false);
	ck_assert_uint_eq(records_found(), 1);
	ck_ok(chmod(ring_file(), 0644));
	ck_assert_uint_eq(records_found(), 0);
	ck_ok(chmod(ring_file(), 0600));
	snprintf(other, sizeof(other), "%s-other", ring_file());
	ck_ok(link(ring_file(), other));
	ck_assert_uint_eq(records_found(), 0);
	ck_ok(unlink(ring_file()));
	ck_ok(symlink(other, ring_file()));
	ck_assert_uint_eq(records_found(), 0);

	/* An open does not write through the link but puts a file in its place. */
	model_reopen(&model, START);
	ck_assert(journal_is_shared(model.journal));
	model_append(&model);
	ck_assert_uint_eq(records_found(), 1);
	ck_ok(unlink(other));
}
END_TEST

START_TEST(ring_is_private_where_shared_memory_fails)
{
	struct model_position position;

	model_close(&model, true);
	ck_ok(mkdir(ring_file(), 0700)); /* unlink() cannot remove it */
	model_reopen(&model, START);
	ck_assert(!journal_is_shared(model.journal));
	position = model_append(&model);
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_PROCESS));
	model_close(&model, false);
	ck_assert_uint_eq(records_found(), 1);
	ck_ok(rmdir(ring_file()));
	model_reopen(&model, START);
}
END_TEST

TCase *ring_tests(void)
{
	TCase *tests = tcase_create("ring");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, ring_full_append_writes_older_blocks);
	tcase_add_test(tests, ring_full_append_leaves_room_for_a_cut);
	tcase_add_test(tests, ring_takes_the_longest_record_at_any_fill);
	tcase_add_test(tests, ring_of_dead_journal_continues_the_log);
	tcase_add_test(tests, ring_settled_on_the_device_is_not_needed_any_more);
	tcase_add_test(tests, ring_and_disk_together_never_lose_a_record);
	tcase_add_test(tests, ring_outlives_a_killed_process);
	tcase_add_test(tests, ring_is_gone_after_clean_close);
	tcase_add_test(tests, ring_is_not_taken_for_another_open);
	tcase_add_test(tests, ring_of_another_boot_or_volume_is_not_taken);
	tcase_add_test(tests, ring_records_are_verified);
	tcase_add_test(tests, ring_file_of_doubtful_origin_is_not_taken);
	tcase_add_test(tests, ring_is_private_where_shared_memory_fails);
	return tests;
}
