/*
 * Several threads at once: private files checked byte for byte while directories above
 * them are renamed, commits run, and everybody creates and removes in one directory.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/log.h"
#include "fs/fs_internal.h"
#include "tests/support/support.h"
#include "tests/unit/test_fs_parts.h"

#define THREADS 4
#ifdef SANITIZE_THREAD
#define ROUNDS 60
#else
#define ROUNDS 200
#endif

struct worker {
	pthread_t thread;
	unsigned number;
	uint64_t dir; /* shared by all */
	uint64_t other;
};

static void churn(struct worker *w, unsigned round, uint64_t *random)
{
	char name[32], new_name[32];
	size_t bytes = (size_t)support_random_below(random, round % 8 ? 30000 : 900000);
	uint64_t ino;

	snprintf(name, sizeof(name), "t%u-%u", w->number, round);
	snprintf(new_name, sizeof(new_name), "t%u", w->number);
	ino = test_file(FS, w->dir, name);
	test_write(FS, ino, round, 0, bytes);
	test_expect(FS, ino, round, 0, bytes);
	if (round % 3 == 0)
		ck_ok(fs_fsync(FS, ino, round % 2));
	ck_ok(fs_rename(FS, w->dir, test_name(name), round % 2 ? w->dir : w->other,
	    test_name(new_name), 0));
	test_expect(FS, ino, round, 0, bytes);
	if (bytes > 5000)
		test_write(FS, ino, round, 100, bytes - 5000);
	test_expect(FS, ino, round, 0, bytes);
	fs_forget(FS, ino, 1);
}

static void *run_churn(void *arg)
{
	struct worker *w = arg;
	uint64_t random = w->number + 1;

	for (unsigned round = 0; round < ROUNDS; round++)
		churn(w, round, &random);
	return NULL;
}

static bool count_entry(void *ctx, const struct fs_dirent *entry)
{
	if (entry->attr)
		fs_forget(FS, 0, 0); /* an unknown number is no harm */
	(*(unsigned *)ctx)++;
	return true;
}

static _Atomic bool is_over;
static _Atomic unsigned damages;

static void *run_syncs(void *arg)
{
	while (!atomic_load(&is_over))
		ck_ok(fs_sync(FS));
	return NULL;
}

static void count_damages(void *ctx, enum log_level level, const char *line)
{
	if (strstr(line, "damaged"))
		atomic_fetch_add(&damages, 1);
}

/* Its data gets recorded between the look at its entry and its removal, or not. */
START_TEST(files_removed_during_a_commit_leave_sound_records)
{
	pthread_t thread;
	char name[32];

	log_set_sink(count_damages, NULL);
	atomic_store(&is_over, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, run_syncs, NULL), 0);
	for (unsigned round = 0; round < 40 * ROUNDS; round++) {
		uint64_t ino;

		snprintf(name, sizeof(name), "f%u", round);
		ino = test_file(FS, FS_ROOT_INO, name);
		test_write(FS, ino, round, 0, 4000 + round % 9000);
		if (round % 4 == 0)
			sched_yield();
		ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name(name)));
		test_expect(FS, ino, round, 0, 4000 + round % 9000);
		fs_forget(FS, ino, 1);
	}
	atomic_store(&is_over, true);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(atomic_load(&damages), 0);
	support_log_to_stderr();
}
END_TEST

/* Renames the directory above everybody's, lists, looks up. */
static void *run_mover(void *arg)
{
	struct worker *w = arg;

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct fs_dir *dir;
		unsigned count = 0;

		ck_ok(fs_rename(FS, FS_ROOT_INO, test_name(round % 2 ? "b" : "a"), FS_ROOT_INO,
		    test_name(round % 2 ? "a" : "b"), 0));
		ck_ok(fs_opendir(FS, w->dir, &dir));
		ck_ok(fs_readdir(dir, 0, false, count_entry, &count));
		ck_assert_uint_ge(count, 2);
		fs_closedir(dir);
		if (round % 16 == 0)
			ck_ok(fs_sync(FS));
	}
	return NULL;
}

START_TEST(threads_do_not_disturb_each_other)
{
	struct worker workers[THREADS + 1] = {0};
	uint64_t a, dir, other;

	test_volume.options.no_threads = false;
	test_volume.options.commit_interval_ms = 20;
	test_volume_reopen(&test_volume);
	ck_ok(fs_start(FS));
	a = test_dir(FS, FS_ROOT_INO, "a");
	dir = test_dir(FS, a, "shared");
	other = test_dir(FS, dir, "other");
	for (unsigned i = 0; i <= THREADS; i++) {
		workers[i].number = i;
		workers[i].dir = dir;
		workers[i].other = other;
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL,
		    i < THREADS ? run_churn : run_mover, &workers[i]), 0);
	}
	for (unsigned i = 0; i <= THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	test_volume_reopen(&test_volume);
}
END_TEST

/* ---- one file, several writers and a syncer ------------------------------------------- */

#define STRIPE 10000u

static void *run_stripe(void *arg)
{
	struct worker *w = arg;

	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t offset = (uint64_t)w->number * STRIPE + (round % 5) * THREADS * STRIPE;

		test_write(FS, w->dir, 1000 * w->number + round, offset, STRIPE);
		test_expect(FS, w->dir, 1000 * w->number + round, offset, STRIPE);
		if (round % 7 == w->number)
			ck_ok(fs_fsync(FS, w->dir, false));
	}
	return NULL;
}

START_TEST(writers_of_one_file_share_blocks_and_syncs)
{
	struct worker workers[THREADS] = {0};
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].number = i;
		workers[i].dir = ino;
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, run_stripe,
		    &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	ck_ok(fs_fsync(FS, ino, false));
	test_volume_recover(&test_volume);
	ino = test_walk(FS, "f");
	for (unsigned i = 0; i < THREADS; i++)
		for (unsigned r = ROUNDS - 5; r < ROUNDS; r++)
			test_expect(FS, ino, 1000 * i + r,
			    (uint64_t)i * STRIPE + (r % 5) * THREADS * STRIPE, STRIPE);
}
END_TEST

/* ---- the worker ---------------------------------------------------------------------------- */

static uint64_t flushes(void)
{
	struct device_counters counters;

	device_counters(FS->device, &counters);
	return counters.flushes;
}

START_TEST(changes_are_committed_by_themselves)
{
	uint64_t ino, before;

	test_volume.options.no_threads = false;
	test_volume.options.commit_interval_ms = 10;
	test_volume_reopen(&test_volume);
	ck_ok(fs_start(FS));
	before = flushes();
	ino = test_file(FS, FS_ROOT_INO, "f");
	test_write(FS, ino, 1, 0, 100000);
	for (int i = 0; i < 1000 && (flushes() == before || atomic_load(&FS->has_changes)); i++)
		usleep(10000);
	ck_assert_uint_gt(flushes(), before);
	test_volume_recover(&test_volume);
	test_expect(FS, test_walk(FS, "f"), 1, 0, 100000);
}
END_TEST

TCase *test_fs_threads(void)
{
	TCase *tests = tcase_create("threads");

	tcase_add_checked_fixture(tests, test_fs_setup, test_fs_teardown);
	tcase_set_timeout(tests, 300);
	tcase_add_test(tests, threads_do_not_disturb_each_other);
	tcase_add_test(tests, writers_of_one_file_share_blocks_and_syncs);
	tcase_add_test(tests, changes_are_committed_by_themselves);
	tcase_add_test(tests, files_removed_during_a_commit_leave_sound_records);
	return tests;
}
