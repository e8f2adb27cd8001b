/*
 * A device that fails: the Nth write, flush or read of a scripted run, for every N,
 * once or from then on.
 *
 *	format, some files, close | open, requests, close | open, compare, walk
 *	          intact          |     fails at N        |        intact
 *
 * Whatever fails, a call gives an error or what was asked for; after a failed write or
 * flush nothing can be changed any more, fsync and close say so, and reading goes on.
 * What is on the device is then as after a crash: a state that the history allows, with
 * everything that was answered as durable.
 *
 * TEST_SEED replays.
 */
#include "config.h"

#include "tests/fault/fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "check/check.h"
#include "device/device_test.h"
#include "fs/fs_internal.h"
#include "tests/crash/recovered.h"
#include "tests/crash/requests.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (24ull << 20)
#define OPS 110
#define BYTES_MAX (3ull << 20)

const struct fs_options fault_fs = {
    .no_threads = true, .cache_bytes = FAULT_CACHE_BYTES, .keep_device = true};

void fault_format(struct device *device)
{
	struct fs_format_options options = {.label = "fault", .root_mode = 0755};

	memcpy(options.uuid, "0123456789abcdef", sizeof(options.uuid));
	ck_ok(fs_format(device, &options));
}

static void print_finding(void *ctx, enum check_severity severity, const char *what)
{
	(void)ctx;
	if (severity != CHECK_NOTE)
		fprintf(stderr, "#   %s: %s\n", severity == CHECK_LEAK ? "leak" : "damage", what);
}

void fault_expect_whole(struct device *device, const char *when)
{
	struct check_options options = {
	    .with_data = true, .cache_bytes = FAULT_CACHE_BYTES, .report = print_finding};
	struct check_totals totals;
	struct device *copy;
	int err;

	ck_ok(device_open_copy(device, &copy));
	err = check_volume(copy, &options, &totals);
	if (err < 0 || totals.damages > 0 || totals.leaks > 0)
		ck_abort_msg("%s: check answers %d, %llu damages, %llu leaks", when, err,
		    (unsigned long long)totals.damages, (unsigned long long)totals.leaks);
}

/* ---- one run ---------------------------------------------------------------------------- */

struct run {
	struct requests requests;
	struct recovered recovered;
	struct device *device; /* faulty */
	struct faulty_plan plan;
	uint64_t seed;
};

/* Has the operation come that the plan lets fail? */
static bool has_failed(struct run *run)
{
	const struct faulty_plan *plan = &run->plan;
	uint64_t reads, writes, flushes;

	faulty_seen(run->device, &reads, &writes, &flushes);
	return (plan->fail_read_at && reads >= plan->fail_read_at) ||
	    (plan->fail_write_at && writes >= plan->fail_write_at) ||
	    (plan->fail_flush_at && flushes >= plan->fail_flush_at);
}

/* A volume with some files, closed. */
static void run_begin(struct run *run)
{
	struct requests *r = &run->requests;
	struct device *inner;

	memset(r, 0, sizeof(*r));
	r->history = history_create();
	r->random = run->seed;
	r->bytes_max = BYTES_MAX;
	ck_ok(device_open_memory(VOLUME_BYTES, &inner));
	fault_format(inner);
	ck_ok(device_open_faulty(inner, &run->device));
	ck_ok(fs_open(run->device, &fault_fs, &r->fs));
	requests_prepare(r, 10, 100000);
	ck_ok(r->error);
	ck_ok(fs_close(r->fs));
	for (uint32_t i = 1; i < r->history->node_count; i++)
		r->history->nodes[i].lookups = 0;
}

static void run_end(struct run *run)
{
	recovered_free(&run->recovered);
	history_destroy(run->requests.history);
	device_close(run->device);
}

static bool is_defined(int err)
{
	return err == 0 || err == -EIO || err == -EROFS || err == -ENOSPC || err == -EUCLEAN;
}

/* Reading goes on, as far as the device lets it; nothing can be changed. */
static void expect_read_only(struct run *run)
{
	struct fs *fs = run->requests.fs;
	const struct fs_cred cred = {0};
	struct fs_name name = {"probe", 5}, base = {"base", 4};
	struct fs_attr attr = {0};
	struct fs_statfs statfs;
	struct fs_read read;

	ck_assert_int_eq(fs_mknod(fs, FS_ROOT_INO, name, S_IFREG, 0, &cred, &attr), -EROFS);
	ck_assert_int_eq(fs_mkdir(fs, FS_ROOT_INO, name, 0755, &cred, &attr), -EROFS);
	ck_assert_int_eq(fs_symlink(fs, FS_ROOT_INO, name, "x", &cred, &attr), -EROFS);
	ck_assert_int_eq(fs_unlink(fs, FS_ROOT_INO, name), -EROFS);
	ck_assert_int_eq(fs_rmdir(fs, FS_ROOT_INO, name), -EROFS);
	ck_assert_int_eq(fs_rename(fs, FS_ROOT_INO, base, FS_ROOT_INO, name, 0), -EROFS);
	ck_assert_int_eq(fs_setattr(fs, FS_ROOT_INO, FS_SET_MODE, &attr, NULL), -EROFS);
	ck_ok(fs_getattr(fs, FS_ROOT_INO, &attr));
	ck_ok(fs_statfs(fs, &statfs));
	for (uint32_t i = 1; i < run->requests.history->node_count; i++) {
		const struct node *node = &run->requests.history->nodes[i];
		int err;

		if (node->type != S_IFREG || node->lookups == 0)
			continue;
		ck_assert_int_eq(fs_write(fs, node->ino, 0, "x", 1, false, false), -EROFS);
		ck_assert_int_lt(fs_fsync(fs, node->ino, false), 0);
		err = fs_read(fs, node->ino, 0, 100000, &read);
		ck_assert(is_defined(err));
		if (err == 0)
			fs_read_done(fs, &read);
	}
	ck_assert_int_lt(fs_fsync(fs, FS_ROOT_INO, false), 0);
	ck_assert_int_lt(fs_sync(fs), 0);
	ck_assert_int_lt(fs_error(fs), 0);
}

static void do_requests(struct run *run)
{
	struct requests *r = &run->requests;
	uint32_t first = r->history->request;

	while (r->error == 0 && r->history->request - first < OPS)
		requests_step(r);
	if (r->error == 0)
		requests_sync(r);
	ck_assert_msg(is_defined(r->error), "%s: %d",
	    r->history->requests[r->history->request].what, r->error);
	if (r->error < 0)
		ck_assert_msg(has_failed(run), "%s: %d, and nothing failed",
		    r->history->requests[r->history->request].what, r->error);
	if (!run->plan.fail_read_at && has_failed(run))
		expect_read_only(run);
}

/* Answers what closing did, or opening. */
static int run_requests(struct run *run)
{
	struct requests *r = &run->requests;
	int err;

	faulty_set_plan(run->device, &run->plan);
	err = fs_open(run->device, &fault_fs, &r->fs);
	if (err < 0)
		return err;
	do_requests(run);
	return fs_close(r->fs);
}

static void expect_allowed(struct run *run, int close_err)
{
	const struct history *history = run->requests.history;
	uint32_t last = history->request - run->requests.is_under_way, floor = last;
	bool fits = false;
	struct fs *fs;

	while (close_err < 0 && floor > 0 && !history->requests[floor].is_sync)
		floor--;
	ck_ok(fs_open(run->device, &fault_fs, &fs));
	if (recovered_read(&run->recovered, history, fs))
		for (uint32_t k = last; !fits && k + 1 > floor; k--)
			fits = recovered_fits(&run->recovered, history, k);
	if (!fits)
		history_print(history, floor, last + 1);
	ck_assert_msg(fits, "%s; durable up to request %u, answered up to %u, close said %d",
	    run->recovered.why, floor, last, close_err);
	ck_ok(fs_close(fs));
}

/* Returns whether the plan's operation came at all. */
static bool try_plan(struct run *run)
{
	const struct faulty_plan none = {0};
	bool was_there;
	int err;

	run_begin(run);
	err = run_requests(run);
	was_there = has_failed(run);
	ck_assert(is_defined(err));
	if (was_there && !run->plan.fail_read_at)
		ck_assert_int_lt(err, 0);
	faulty_set_plan(run->device, &none);
	fault_expect_whole(run->device, "after the fault");
	expect_allowed(run, err);
	fault_expect_whole(run->device, "after the next use");
	run_end(run);
	return was_there;
}

static void try_all(enum device_op op, bool is_flush, bool is_sticky, int error)
{
	struct run *run = calloc(1, sizeof(*run));
	uint64_t n = 0;
	bool was_there = true;

	ck_assert(run != NULL);
	run->seed = support_seed(20261122);
	while (was_there) {
		n++;
		run->plan = (struct faulty_plan){.is_sticky = is_sticky, .error = error};
		if (is_flush)
			run->plan.fail_flush_at = n;
		else if (op == DEVICE_READ)
			run->plan.fail_read_at = n;
		else
			run->plan.fail_write_at = n;
		was_there = try_plan(run);
	}
	printf("# %llu operations\n", (unsigned long long)n - 1);
	free(run);
}

START_TEST(any_write_may_fail)
{
	try_all(DEVICE_WRITE, false, false, -EIO);
}
END_TEST

START_TEST(all_writes_may_fail_from_any_on)
{
	try_all(DEVICE_WRITE, false, true, -EIO);
}
END_TEST

START_TEST(any_write_may_find_the_host_full)
{
	try_all(DEVICE_WRITE, false, false, -ENOSPC);
}
END_TEST

START_TEST(any_flush_may_fail)
{
	try_all(DEVICE_WRITE, true, false, -EIO);
}
END_TEST

START_TEST(any_read_may_fail)
{
	try_all(DEVICE_READ, false, false, -EIO);
}
END_TEST

START_TEST(all_reads_may_fail_from_any_on)
{
	try_all(DEVICE_READ, false, true, -EIO);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fs fault");
	TCase *tests = tcase_create("failing device");

	tcase_set_timeout(tests, 600);
	tcase_add_test(tests, any_write_may_fail);
	tcase_add_test(tests, all_writes_may_fail_from_any_on);
	tcase_add_test(tests, any_write_may_find_the_host_full);
	tcase_add_test(tests, any_flush_may_fail);
	tcase_add_test(tests, any_read_may_fail);
	tcase_add_test(tests, all_reads_may_fail_from_any_on);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, full_volume_tests());
	return support_run(suite);
}
