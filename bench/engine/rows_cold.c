/*
 * Point reads of a store much larger than its cache.
 *
 * Every engine has a cache of an eighth of what our tree takes on disk.  Ours and RocksDB
 * have it in the process and read the files past the host's cache; LMDB's cache is the
 * host's, so its process is put in a memory cgroup of that size and some for its own
 * memory.  Each round of each engine is a process of its own that begins with nothing
 * cached, reads for a while uncounted, and then counts.
 */
#include "config.h"

#include "bench/engine/bench_engine.h"

#include <stdio.h>

#include "base/bytes.h"
#include "bench/engine/child.h"
#include "bench/engine/ours.h"
#include "bench/engine/report.h"
#include "bench/engine/slice.h"

#define CACHE_MIN (8ull << 20)
#define PROCESS_BYTES (6ull << 20) /* of a process that reads, besides its cache */
#define COLD_ROUNDS_MAX 5

static const struct bench_driver *const drivers[] = {
    &driver_holt, &driver_lmdb, &driver_rocksdb};
#define DRIVERS ARRAY_COUNT(drivers)

struct cold {
	const struct bench_config *config;
	struct contender contenders[DRIVERS];
	unsigned current;
	struct key_space keys;
	uint64_t cache_bytes, tree_bytes, seed;
	bool is_limited;
	/* of one round */
	double ns, bytes, reads;
};

static void load(void *ctx)
{
	struct cold *cold = ctx;
	struct bench_options options = {
	    .keys = cold->keys.keys,
	    .cache_bytes = ample_cache(cold->keys.keys),
	};
	struct contender *contender = &cold->contenders[cold->current];

	contender_open(contender, cold->config, drivers[cold->current], &options);
	contender_load(contender, &cold->keys, true);
	if (contender->driver->settle(contender->engine))
		bench_die("%s: does not settle", contender->driver->name);
	if (contender->driver == &driver_holt) {
		struct ours_stats stats;

		ours_stats(contender->engine, &stats);
		cold->tree_bytes = stats.used_bytes - stats.journal_bytes;
	}
	contender_shut(contender);
}

/* Device reads: RocksDB's are system calls, LMDB's are page faults, ours are counted. */
static uint64_t reads_of(const struct contender *contender, const struct process_usage *usage)
{
	struct ours_stats stats;

	if (contender->driver == &driver_lmdb)
		return usage->major_faults;
	if (contender->driver == &driver_rocksdb)
		return usage->read_calls;
	ours_stats(contender->engine, &stats);
	return stats.device_reads;
}

static void read_cold(void *ctx)
{
	struct cold *cold = ctx;
	struct contender *contender = &cold->contenders[cold->current];
	struct bench_options options = {
	    .keys = cold->keys.keys,
	    .cache_bytes = cold->cache_bytes,
	    .is_direct = true,
	};
	struct slice slice = {
	    .driver = contender->driver,
	    .sessions = contender->sessions,
	    .space = &cold->keys,
	    .kind = STEP_GET,
	    .threads = 1,
	    .parts = 1,
	    .chunk_steps = CHUNK_STEPS,
	    .seed = cold->seed,
	    .run_ns = 4 * cold->config->slice_ns,
	};
	struct process_usage before, after;
	uint64_t reads, steps;

	forget_files(contender->dir);
	if (contender->driver == &driver_lmdb)
		cold->is_limited = limit_memory(config_name(cold->config),
		    cold->cache_bytes + PROCESS_BYTES);
	contender_reopen(contender, &options);
	contender_sessions(contender, 1, BENCH_PROCESS);
	slice_run(&slice);
	slice.seed++;
	process_usage(&before);
	reads = reads_of(contender, &before);
	slice.ret_steps = &steps;
	cold->ns = slice_run(&slice);
	process_usage(&after);
	cold->reads = (double)(reads_of(contender, &after) - reads) / (double)steps;
	cold->bytes = (double)(after.read_bytes - before.read_bytes) / (double)steps;
	contender_shut(contender);
}

struct medians {
	double ns[DRIVERS][COLD_ROUNDS_MAX], bytes[DRIVERS][COLD_ROUNDS_MAX],
	    reads[DRIVERS][COLD_ROUNDS_MAX];
	unsigned rounds;
};

static void report(const struct cold *cold, struct medians *medians, unsigned peer,
    const char *row, double (*numbers)[COLD_ROUNDS_MAX], const char *unit)
{
	struct bench_figure figure = {.peer = drivers[peer]->name, .unit = unit};
	double ratios[COLD_ROUNDS_MAX];

	snprintf(figure.name, sizeof(figure.name), "fs/%s/%llu", row,
	    (unsigned long long)cold->keys.keys);
	figure.ours = median_of(numbers[0], medians->rounds);
	figure.theirs = median_of(numbers[peer], medians->rounds);
	for (unsigned i = 0; i < medians->rounds; i++)
		ratios[i] = numbers[0][i] > 0 ? numbers[peer][i] / numbers[0][i] : 0;
	figure.ratio = median_of(ratios, medians->rounds);
	snprintf(figure.setting, sizeof(figure.setting),
	    "1 thread, cache %llu KiB = tree / %.1f, files not cached by the host; peer: %s",
	    (unsigned long long)(cold->cache_bytes >> 10),
	    (double)cold->tree_bytes / (double)cold->cache_bytes,
	    drivers[peer] != &driver_lmdb ? "direct I/O, index and filter blocks not counted" :
	    cold->is_limited		  ? "NORDAHEAD, memory cgroup of the cache's size" :
				     "NOT LIMITED, no memory cgroup to be had");
	report_add(&figure);
}

static void run_rounds(struct cold *cold, struct medians *medians)
{
	for (unsigned round = 0; round < medians->rounds; round++)
		for (unsigned i = 0; i < DRIVERS; i++) {
			cold->current = (i + round) % DRIVERS;
			if (!*cold->contenders[cold->current].dir)
				continue;
			cold->seed = 100 + 2 * round;
			child_run(read_cold, cold);
			medians->ns[cold->current][round] = cold->ns;
			medians->bytes[cold->current][round] = cold->bytes;
			medians->reads[cold->current][round] = cold->reads;
		}
}

void run_cold_rows(const struct bench_config *config, const struct workload *workload,
    uint64_t keys)
{
	struct medians medians = {.rounds = min_of(config->rounds, (unsigned)COLD_ROUNDS_MAX)};
	struct cold *cold;

	if (!config_wants_long(config, workload->name, "cold_get", keys, 200000))
		return;
	cold = shared_memory(sizeof(*cold));
	cold->config = config;
	key_space_init(&cold->keys, workload, keys);
	for (cold->current = 0; cold->current < DRIVERS; cold->current++)
		if (!cold->current || config_wants_peer(config, drivers[cold->current]->name))
			child_run(load, cold);
	cold->cache_bytes = max_of(round_up(cold->tree_bytes / 8, 1 << 20), CACHE_MIN);
	run_rounds(cold, &medians);
	for (unsigned i = 1; i < DRIVERS; i++) {
		if (!*cold->contenders[i].dir)
			continue;
		report(cold, &medians, i, "cold_get", medians.ns, "ns");
		report(cold, &medians, i, "cold_get_bytes", medians.bytes, "bytes/get");
		report(cold, &medians, i, "cold_get_reads", medians.reads, "reads/get");
	}
	shared_memory_free(cold, sizeof(*cold));
}
