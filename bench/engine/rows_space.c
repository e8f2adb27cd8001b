/*
 * What a key takes: on disk, after keys were put in order and in random order, and in
 * memory. And how full our frames are.
 *
 * On disk is what the engine's files take of the file system when it was told to write
 * everything and was closed; write-ahead logs do not count, for any engine (ours has a
 * size fixed when the store is made).  In memory is what the process has resident more
 * than before, maps of files included, with all keys read once.
 */
#include "config.h"

#include "bench/engine/bench_engine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "bench/engine/child.h"
#include "bench/engine/ours.h"
#include "bench/engine/report.h"

static const struct bench_driver *const drivers[] = {
    &driver_holt, &driver_lmdb, &driver_rocksdb, &driver_sqlite};

struct space {
	const struct bench_config *config;
	const struct bench_driver *driver;
	struct key_space keys;
	bool is_random;
	uint64_t disk_bytes, memory_bytes, journal_bytes;
};

static bool is_log(const char *name)
{
	size_t bytes = strlen(name);

	return strcmp(name, "db-wal") == 0 || strcmp(name, "db-shm") == 0 ||
	       strcmp(name, "LOG") == 0 ||
	       (bytes > 4 && strcmp(name + bytes - 4, ".log") == 0);
}

static uint64_t bytes_in(const char *dir)
{
	DIR *listing = opendir(dir);
	struct dirent *entry;
	uint64_t bytes = 0;
	struct stat st;

	if (!listing)
		bench_die("%s: %s", dir, strerror(errno));
	while ((entry = readdir(listing)))
		if (!is_log(entry->d_name) &&
		    fstatat(dirfd(listing), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_blocks * 512;
	closedir(listing);
	return bytes;
}

static void read_all(struct space *space, struct contender *contender)
{
	struct bench_sink sink = {0};
	uint8_t key[BENCH_KEY_MAX];

	for (uint64_t i = 0; i < space->keys.keys; i++) {
		size_t bytes = key_at(&space->keys, i, key);

		if (contender->driver->get(contender->sessions[0], key, bytes, &sink))
			bench_die("%s: key %llu is not there", contender->driver->name,
			    (unsigned long long)i);
	}
}

static void measure(void *ctx)
{
	struct space *space = ctx;
	struct bench_options options = {
	    .keys = space->keys.keys,
	    .cache_bytes = ample_cache(space->keys.keys),
	};
	struct process_usage before, after;
	struct contender contender;

	contender_open(&contender, space->config, space->driver, &options);
	contender_load(&contender, &space->keys, space->is_random);
	if (space->driver->settle(contender.engine))
		bench_die("%s: does not settle", space->driver->name);
	if (space->driver == &driver_holt) {
		struct ours_stats stats;

		ours_stats(contender.engine, &stats);
		space->journal_bytes = stats.journal_bytes;
	}
	contender_shut(&contender);
	space->disk_bytes = bytes_in(contender.dir) - space->journal_bytes;
	process_usage(&before);
	contender_reopen(&contender, &options);
	contender_sessions(&contender, 1, BENCH_PROCESS);
	read_all(space, &contender);
	process_usage(&after);
	space->memory_bytes = after.resident_bytes - before.resident_bytes;
	contender_close(&contender);
}

static void report(const struct space *ours, const struct space *theirs, const char *row,
    uint64_t our_bytes, uint64_t their_bytes, const char *how)
{
	struct bench_figure figure = {.peer = theirs->driver->name, .unit = "bytes/key"};

	snprintf(figure.name, sizeof(figure.name), "%s/%s/%llu", ours->keys.workload->name,
	    row, (unsigned long long)ours->keys.keys);
	figure.ours = (double)our_bytes / (double)ours->keys.keys;
	figure.theirs = (double)their_bytes / (double)ours->keys.keys;
	figure.ratio = figure.theirs / figure.ours;
	snprintf(figure.setting, sizeof(figure.setting), "%s; our journal of %llu MiB %s", how,
	    (unsigned long long)(ours->journal_bytes >> 20), "and their logs not counted");
	report_add(&figure);
}

static void run_order(const struct bench_config *config, const struct workload *workload,
    uint64_t keys, bool is_random)
{
	const char *disk = is_random ? "disk_random" : "disk_sorted";
	size_t bytes = ARRAY_COUNT(drivers) * sizeof(struct space);
	struct space *spaces;

	if (!config_wants_long(config, workload->name, disk, keys, 200000) &&
	    !config_wants_long(config, workload->name, "memory", keys, 200000))
		return;
	spaces = shared_memory(bytes);
	for (unsigned i = 0; i < ARRAY_COUNT(drivers); i++) {
		spaces[i].config = config;
		spaces[i].driver = drivers[i];
		spaces[i].is_random = is_random;
		key_space_init(&spaces[i].keys, workload, keys);
		if (i == 0 || config_wants_peer(config, drivers[i]->name))
			child_run(measure, &spaces[i]);
	}
	for (unsigned i = 1; i < ARRAY_COUNT(drivers); i++) {
		if (!config_wants_peer(config, drivers[i]->name))
			continue;
		report(&spaces[0], &spaces[i], disk, spaces[0].disk_bytes,
		    spaces[i].disk_bytes,
		    is_random ? "files, keys put in random order" : "files, keys put in order");
		if (is_random)
			report(&spaces[0], &spaces[i], "memory", spaces[0].memory_bytes,
			    spaces[i].memory_bytes,
			    "resident with all keys read, put in random order");
	}
	shared_memory_free(spaces, bytes);
}

void run_space_rows(const struct bench_config *config, const struct workload *workload,
    uint64_t keys)
{
	run_order(config, workload, keys, false);
	run_order(config, workload, keys, true);
}

/* ---- fill ------------------------------------------------------------------ */

#define FILL_SIZES 20

struct filling {
	const struct bench_config *config;
	struct key_space keys;
	bool is_random;
	double fill;
};

static void measure_fill(void *ctx)
{
	struct filling *filling = ctx;
	struct bench_options options = {
	    .keys = filling->keys.keys,
	    .cache_bytes = ample_cache(filling->keys.keys),
	};
	struct contender contender;

	contender_open(&contender, filling->config, &driver_holt, &options);
	contender_load(&contender, &filling->keys, filling->is_random);
	filling->fill = ours_fill(contender.engine);
	contender_close(&contender);
}

/* The fill of one size swings with where the frames happen to be cut, so it is averaged
 * over sizes from half the keys to all. */
static void run_fill(const struct bench_config *config, const struct workload *workload,
    uint64_t keys, bool is_random)
{
	struct bench_figure figure = {.peer = "", .unit = "fill"};
	struct filling *filling = shared_memory(sizeof(*filling));
	double sum = 0, lowest = 1;

	filling->config = config;
	filling->is_random = is_random;
	for (unsigned i = 0; i < FILL_SIZES; i++) {
		key_space_init(&filling->keys, workload, keys / 2 + i * (keys / 2) / (FILL_SIZES - 1));
		child_run(measure_fill, filling);
		sum += filling->fill;
		lowest = min_of(lowest, filling->fill);
	}
	shared_memory_free(filling, sizeof(*filling));
	snprintf(figure.name, sizeof(figure.name), "%s/fill_%s/%llu", workload->name,
	    is_random ? "random" : "sorted", (unsigned long long)keys);
	figure.ours = sum / FILL_SIZES;
	snprintf(figure.setting, sizeof(figure.setting),
	    "average frame, %d sizes from %llu to %llu keys put in %s; lowest %.2f", FILL_SIZES,
	    (unsigned long long)keys / 2, (unsigned long long)keys,
	    is_random ? "random order" : "order", lowest);
	report_add(&figure);
}

void run_fill_rows(const struct bench_config *config, const struct workload *workload,
    uint64_t keys)
{
	if (config_wants_long(config, workload->name, "fill_sorted", keys, 2000000))
		run_fill(config, workload, keys, false);
	if (config_wants_long(config, workload->name, "fill_random", keys, 2000000))
		run_fill(config, workload, keys, true);
}
