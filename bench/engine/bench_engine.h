/*
 * The engines side by side: what was asked for, who takes part, and the groups of rows.
 */
#ifndef BENCH_ENGINE_BENCH_ENGINE_H
#define BENCH_ENGINE_BENCH_ENGINE_H

#include "bench/engine/driver.h"
#include "bench/engine/workload.h"

#define SIZES_MAX 16
#define ROUNDS_MAX 64
#define THREADS_MAX 16

struct bench_config {
	char dir[4000]; /* of our own, emptied after each group of rows */
	bool is_quick;
	const char *rows, *peers; /* patterns, or NULL: all */
	uint64_t sizes[SIZES_MAX];
	unsigned size_count;
	unsigned rounds;
	uint64_t slice_ns;
};

/* Is the row (as in "fs/get", without the size) to be run? */
bool config_wants(const struct bench_config *config, const char *workload, const char *row);
/* The same for rows that say little about few keys, and take long: not in a quick run
 * and, unless asked for by name, only with @keys_min and more, for workload fs. */
bool config_wants_long(const struct bench_config *config, const char *workload,
    const char *row, uint64_t keys, uint64_t keys_min);
bool config_wants_peer(const struct bench_config *config, const char *peer);

/* Of this run alone, as its directory's. */
const char *config_name(const struct bench_config *config);

/* An engine that takes part, with its store. */
struct contender {
	const struct bench_driver *driver;
	char dir[4096];
	void *engine;
	void *sessions[THREADS_MAX];
	unsigned session_count;
	enum bench_level level;
	double ns[ROUNDS_MAX];
};

/* Makes an empty directory for the contender and opens it there. */
void contender_open(struct contender *contender, const struct bench_config *config,
    const struct bench_driver *driver, const struct bench_options *options);

/* Closes it; its directory stays. */
void contender_shut(struct contender *contender);

/* Closes it and opens what is in its directory. */
void contender_reopen(struct contender *contender, const struct bench_options *options);

/* Closes it and removes what it wrote. */
void contender_close(struct contender *contender);

void contender_sessions(struct contender *contender, unsigned count, enum bench_level level);
void contender_drop_sessions(struct contender *contender);

/* Puts all keys: in the order of their indexes, or in random order. */
void contender_load(struct contender *contender, const struct key_space *space, bool is_random);

/* Removes what is in a directory, and the directory. */
void remove_tree(const char *path);

/* Memory for data, the same for all engines, that holds all of it. */
uint64_t ample_cache(uint64_t keys);

/* ---- groups of rows; each runs in a process of its own, with no store open before ---- */

typedef void bench_group_fn(const struct bench_config *config,
    const struct workload *workload, uint64_t keys);

bench_group_fn run_speed_rows, run_space_rows, run_fill_rows, run_cold_rows,
    run_checkpoint_rows, run_recovery_rows, run_prefix_rows, run_scaling_rows;

#endif
