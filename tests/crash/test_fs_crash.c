/*
 * The power is cut at every event of a run of random requests, with any subset of the
 * writes not flushed kept, whole or torn.  What is on the disk then has to
 *
 *  - show no damage and no leak to the consistency walk;
 *  - open, and hold what the history of requests allows (recovered.c);
 *  - be a file system that works: changed, closed, opened and walked again.
 *
 * Several runs: with a short log, with one about to be half full (a checkpoint comes
 * by itself) and with one about to wrap around.  The pool is as small as may be, so
 * that frames and segments come and go.
 *
 * TEST_SEED replays; TEST_OPS sets the number of requests of a run, TEST_CUTS how many
 * cuts are tried of each.
 */
#include "config.h"

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

#define VOLUME_BYTES (40ull << 20)
#define CACHE_BYTES (8ull << 20)
#define JOURNAL_BYTES (8ull << 20)
#define OPS 260
#define CUTS 220
#define BYTES_MAX (5ull << 20)

static const struct fs_options small_fs = {
    .no_threads = true, .cache_bytes = CACHE_BYTES, .keep_device = true};

struct cut {
	uint32_t event;
	uint64_t seed;
	enum recording_tear tear;
};

struct run {
	struct requests requests;
	struct device *device;
	struct recovered recovered;
	struct cut *cuts;
	uint32_t cut_count;
};

static uint64_t setting(const char *name, uint64_t fallback)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : fallback;
}

/* ---- the run --------------------------------------------------------------------------- */

static void run_begin(struct run *run, uint64_t random, uint32_t files, uint64_t log_bytes)
{
	struct fs_format_options options = {.label = "crash", .root_mode = 0755};
	struct requests *r = &run->requests;

	memset(run, 0, sizeof(*run));
	ck_ok(device_open_recording(VOLUME_BYTES, &run->device));
	memcpy(options.uuid, "0123456789abcdef", sizeof(options.uuid));
	ck_ok(fs_format(run->device, &options));
	r->history = history_create();
	r->random = random;
	r->bytes_max = BYTES_MAX;
	ck_ok(fs_open(run->device, &small_fs, &r->fs));
	requests_prepare(r, files, log_bytes);
	ck_ok(r->error);
	r->recording = run->device;
	recording_restart(run->device);
}

static void run_end(struct run *run)
{
	history_destroy(run->requests.history);
	device_close(run->device);
	free(run->cuts);
}

static void do_requests(struct run *run, uint64_t count)
{
	struct requests *r = &run->requests;
	uint32_t first = r->history->request;

	while (r->history->request - first < count && r->error == 0)
		requests_step(r);
	if (r->error < 0)
		history_print(r->history, r->history->request, r->history->request);
	ck_ok(r->error);
	fs_abandon(r->fs);
}

/* ---- one cut --------------------------------------------------------------------------- */

static void print_finding(void *ctx, enum check_severity severity, const char *what)
{
	(void)ctx;
	if (severity != CHECK_NOTE)
		fprintf(stderr, "#   %s: %s\n", severity == CHECK_LEAK ? "leak" : "damage", what);
}

static void explain(const struct run *run, const struct cut *cut, const char *what)
{
	const struct history *history = run->requests.history;
	uint32_t last = 0;

	while (last < history->request && history->requests[last].events_before < cut->event)
		last++;
	fprintf(stderr, "# %s, cut at event %u, seed %llu, tear %d; last requests:\n", what,
	    cut->event, (unsigned long long)cut->seed, (int)cut->tear);
	history_print(history, last > 25 ? last - 25 : 0, last);
}

static void expect_whole(const struct run *run, const struct cut *cut, struct device *device,
    const char *when)
{
	struct check_options options = {
	    .with_data = true, .cache_bytes = CACHE_BYTES, .report = print_finding};
	struct check_totals totals;
	struct device *copy;
	int err;

	ck_ok(device_open_copy(device, &copy));
	err = check_volume(copy, &options, &totals);
	if (err < 0 || totals.damages > 0 || totals.leaks > 0) {
		explain(run, cut, when);
		ck_abort_msg("%s: check answers %d, %llu damages, %llu leaks", when, err,
		    (unsigned long long)totals.damages, (unsigned long long)totals.leaks);
	}
}

/* Is what was recovered the state after some request that may be the last? */
static void expect_allowed(struct run *run, const struct cut *cut, struct fs *fs)
{
	const struct history *history = run->requests.history;
	uint32_t floor = 0, last = 0;
	bool is_read = recovered_read(&run->recovered, history, fs), fits = false;

	for (uint32_t i = 0; i <= history->request; i++) {
		const struct request *request = &history->requests[i];

		if (request->events_before < cut->event)
			last = i;
		if (request->is_sync && request->events_after <= cut->event)
			floor = i;
	}
	for (uint32_t k = max_of(floor, last); is_read && !fits && k + 1 > floor; k--)
		fits = recovered_fits(&run->recovered, history, k);
	if (!fits) {
		explain(run, cut, "not a state that may be left");
		for (uint32_t k = floor; is_read && k <= max_of(floor, last); k++) {
			recovered_fits(&run->recovered, history, k);
			fprintf(stderr, "#   after request %u: %s\n", k, run->recovered.why);
		}
		ck_abort_msg("cut at %u: %s; durable up to request %u, begun up to %u", cut->event,
		    run->recovered.why, floor, last);
	}
}

/* ---- the recovered file system is as good as any other --------------------------------- */

#define FRESH_FILES 4

static uint8_t *fresh_data(uint32_t i, uint64_t *ret_bytes)
{
	static const uint32_t sizes[FRESH_FILES] = {100, 5000, 300000, 700000};
	uint8_t *data = malloc(sizes[i]);

	ck_assert(data != NULL);
	for (uint32_t at = 0; at < sizes[i]; at++)
		data[at] = (uint8_t)(at * 7 + at / 4096 + i);
	*ret_bytes = sizes[i];
	return data;
}

static struct fs_name fresh_name(uint32_t i, char buf[HISTORY_NAME])
{
	snprintf(buf, HISTORY_NAME, "fresh-%u", i);
	return (struct fs_name){buf, strlen(buf)};
}

static void write_fresh(struct fs *fs)
{
	const struct fs_cred cred = {0};
	char buf[HISTORY_NAME];

	for (uint32_t i = 0; i < FRESH_FILES; i++) {
		uint64_t bytes;
		uint8_t *data = fresh_data(i, &bytes);
		struct fs_attr attr;

		ck_ok(fs_mknod(fs, FS_ROOT_INO, fresh_name(i, buf), S_IFREG | 0644, 0, &cred, &attr));
		ck_ok(fs_write(fs, attr.ino, 0, data, bytes, false, i == 1));
		ck_ok(fs_fsync(fs, attr.ino, false));
		free(data);
	}
	ck_ok(fs_unlink(fs, FS_ROOT_INO, fresh_name(0, buf)));
}

static void expect_fresh(struct fs *fs)
{
	char buf[HISTORY_NAME];
	struct fs_attr attr;

	ck_assert_int_eq(fs_lookup(fs, FS_ROOT_INO, fresh_name(0, buf), &attr), -ENOENT);
	for (uint32_t i = 1; i < FRESH_FILES; i++) {
		uint64_t bytes;
		uint8_t *data = fresh_data(i, &bytes);
		uint64_t at = 0;

		ck_ok(fs_lookup(fs, FS_ROOT_INO, fresh_name(i, buf), &attr));
		ck_assert_uint_eq(attr.size, bytes);
		while (at < bytes) {
			struct fs_read read;

			ck_ok(fs_read(fs, attr.ino, at, bytes - at, &read));
			ck_assert_uint_gt(read.bytes, 0);
			for (uint32_t p = 0; p < read.count; p++) {
				ck_assert_mem_eq(read.pieces[p].iov_base, data + at,
				    read.pieces[p].iov_len);
				at += read.pieces[p].iov_len;
			}
			fs_read_done(fs, &read);
		}
		free(data);
	}
}

/* Files that came through the crash go: their blocks must be theirs alone. */
static void remove_found(struct run *run, struct fs *fs)
{
	const struct history *history = run->requests.history;

	for (uint32_t i = 1; i < history->node_count; i++) {
		const struct found *found = &run->recovered.nodes[i];

		if (found->is_there && !S_ISDIR(found->attr.mode) && i % 2)
			ck_ok(fs_unlink(fs, found->parent,
			    (struct fs_name){found->name, strlen(found->name)}));
	}
}

static void expect_usable(struct run *run, const struct cut *cut, struct fs *fs, struct device *device)
{
	write_fresh(fs);
	remove_found(run, fs);
	expect_fresh(fs);
	ck_ok(fs_close(fs));
	expect_whole(run, cut, device, "after use");
	ck_ok(fs_open(device, &small_fs, &fs));
	expect_fresh(fs);
	ck_ok(fs_close(fs));
}

/* ---- one cut, continued ------------------------------------------------------------------ */

static struct fs *open_cut(struct run *run, const struct cut *cut, struct device *device)
{
	struct fs *fs;
	int err = fs_open(device, &small_fs, &fs);

	if (err < 0) {
		explain(run, cut, "does not open");
		ck_abort_msg("cut at %u: open answers %d", cut->event, err);
	}
	return fs;
}

static void copy_into(struct device *to, struct device *from)
{
	uint32_t chunk = 64 * 1024;
	uint8_t *data = aligned_alloc(DEVICE_ALIGN, chunk), *zeros = calloc(1, chunk);

	for (uint64_t at = 0; at < VOLUME_BYTES; at += chunk) {
		ck_ok(device_read(from, data, chunk, at));
		if (memcmp(data, zeros, chunk) != 0)
			ck_ok(device_write(to, data, chunk, at));
	}
	free(data);
	free(zeros);
}

static void try_cut(struct run *run, const struct cut *cut)
{
	struct device *device;
	struct fs *fs;

	ck_ok(recording_cut(run->device, cut->event, cut->seed, cut->tear, &device));
	expect_whole(run, cut, device, "as the power left it");
	fs = open_cut(run, cut, device);
	expect_allowed(run, cut, fs);
	expect_usable(run, cut, fs, device);
	recovered_free(&run->recovered);
	device_close(device);
}

/* The power goes again while the first cut is being recovered from. */
static void try_cut_twice(struct run *run, const struct cut *cut)
{
	struct device *first, *again;
	uint32_t count;

	ck_ok(device_open_recording(VOLUME_BYTES, &again));
	ck_ok(recording_cut(run->device, cut->event, cut->seed, cut->tear, &first));
	copy_into(again, first);
	device_close(first);
	recording_restart(again);
	fs_abandon(open_cut(run, cut, again));
	count = recording_event_count(again);
	for (uint32_t event = 0; event <= count; event += 1 + count / 12) {
		struct device *second;
		struct fs *fs;

		ck_ok(recording_cut(again, event, event + 1, RECORDING_TEAR_512, &second));
		expect_whole(run, cut, second, "cut again in recovery");
		fs = open_cut(run, cut, second);
		expect_allowed(run, cut, fs);
		recovered_free(&run->recovered);
		fs_abandon(fs);
		device_close(second);
	}
	device_close(again);
}

/* ---- all cuts --------------------------------------------------------------------------- */

static void add_cut(struct run *run, uint32_t event, uint64_t seed, enum recording_tear tear)
{
	run->cuts = reallocarray(run->cuts, run->cut_count + 1, sizeof(*run->cuts));
	ck_assert(run->cuts != NULL);
	run->cuts[run->cut_count++] = (struct cut){event, seed, tear};
}

static bool is_flush(const struct run *run, uint32_t event)
{
	return event < recording_event_count(run->device) &&
	    recording_event_is_flush(run->device, event);
}

/*
 * Every boundary beside a flush; between writes what is left of @most, evenly.  Right
 * before a flush is where most is in the balance: some subsets, and torn ones.
 */
static void choose_cuts(struct run *run, uint64_t most)
{
	uint32_t count = recording_event_count(run->device), between;
	uint64_t seed = support_random(&run->requests.random) >> 1 | 1;

	for (uint32_t event = 0; event <= count; event++) {
		if (event == 0 || is_flush(run, event - 1))
			add_cut(run, event, 0, RECORDING_WHOLE);
		if (!is_flush(run, event) && event < count)
			continue;
		add_cut(run, event, UINT64_MAX, RECORDING_WHOLE);
		add_cut(run, event, seed + event, RECORDING_WHOLE);
		add_cut(run, event, seed + event + 1, RECORDING_TEAR_512);
		add_cut(run, event, seed + event + 2, RECORDING_TEAR_4096);
	}
	between = most > run->cut_count ? (uint32_t)most - run->cut_count : 1;
	for (uint32_t event = 1; event < count; event += 1 + count / between)
		add_cut(run, event, seed + event, event % 3);
}

static void try_cuts(struct run *run, uint64_t most)
{
	uint32_t step;

	choose_cuts(run, most);
	step = 1 + (uint32_t)(run->cut_count / most);
	printf("# %u requests, %u events, %u cuts\n", run->requests.history->request,
	    recording_event_count(run->device), run->cut_count / step);
	for (uint32_t i = 0; i < run->cut_count; i += step)
		try_cut(run, &run->cuts[i]);
	for (uint32_t i = 1; i < run->cut_count; i += 1 + run->cut_count / 3)
		try_cut_twice(run, &run->cuts[i]);
}

static void test_run(uint64_t salt, uint32_t files, uint64_t log_bytes)
{
	uint64_t seed = support_seed(20261122) * 8 + salt;
	struct run *run = malloc(sizeof(*run));

	ck_assert(run != NULL);
	run_begin(run, seed, files, log_bytes);
	do_requests(run, setting("TEST_OPS", OPS));
	try_cuts(run, setting("TEST_CUTS", CUTS));
	run_end(run);
	free(run);
}

START_TEST(power_cut_leaves_what_was_promised)
{
	test_run(1, 20, 0);
}
END_TEST

START_TEST(power_cut_around_a_checkpoint_by_itself)
{
	test_run(2, 150, JOURNAL_BYTES / 2 - 300000);
}
END_TEST

START_TEST(power_cut_where_the_log_wraps_around)
{
	test_run(3, 60, JOURNAL_BYTES - 300000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fs crash");
	TCase *tests = tcase_create("crash");

	tcase_set_timeout(tests, 3600);
	tcase_add_test(tests, power_cut_leaves_what_was_promised);
	tcase_add_test(tests, power_cut_around_a_checkpoint_by_itself);
	tcase_add_test(tests, power_cut_where_the_log_wraps_around);
	suite_add_tcase(suite, tests);
	return support_run(suite);
}
