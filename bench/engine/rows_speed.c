/*
 * Rows of one operation, or a mix, on a store that fits into memory.
 *
 * All engines are loaded and open side by side.  A row runs in rounds; in a round each
 * engine has one slice of time, in an order that turns from round to round, and draws
 * the same steps.  What is reported is the median of the rounds' ratios: what disturbs
 * the machine for some seconds disturbs all of them.
 */
#include "config.h"

#include "bench/engine/bench_engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "bench/engine/report.h"
#include "bench/engine/slice.h"

enum {
	QUICK = 1,
	PUTS = 2, /* drivers that take part only in puts do */
};

struct row {
	const char *name;
	enum step_kind kind;
	enum bench_level level;
	unsigned threads, flags;
};

/* Reads before writes: they find the stores as loaded. */
static const struct row rows[] = {
    {"get", STEP_GET, BENCH_PROCESS, 1, QUICK},
    {"list", STEP_LIST, BENCH_PROCESS, 1, QUICK},
    {"list_values", STEP_LIST_VALUES, BENCH_PROCESS, 1, QUICK},
    {"list_page", STEP_LIST_PAGE, BENCH_PROCESS, 1, 0},
    {"list_dir", STEP_LIST_DIR, BENCH_PROCESS, 1, QUICK},
    {"get_2_threads", STEP_GET, BENCH_PROCESS, 2, 0},
    {"list_dir_2_threads", STEP_LIST_DIR, BENCH_PROCESS, 2, 0},
    {"put", STEP_PUT, BENCH_PROCESS, 1, QUICK | PUTS},
    {"put_2_threads", STEP_PUT, BENCH_PROCESS, 2, PUTS},
    {"mixed", STEP_MIXED, BENCH_PROCESS, 1, 0},
    {"create_delete", STEP_CREATE_DELETE, BENCH_PROCESS, 1, 0},
    {"rename", STEP_RENAME, BENCH_PROCESS, 1, 0},
    {"metadata_mix", STEP_METADATA_MIX, BENCH_PROCESS, 1, QUICK},
    {"metadata_mix_2_threads", STEP_METADATA_MIX, BENCH_PROCESS, 2, 0},
    {"put_lossy", STEP_PUT, BENCH_LOSSY, 1, PUTS},
    {"put_sync", STEP_PUT, BENCH_SYNC, 1, PUTS},
    {"put_sync_16_threads", STEP_PUT, BENCH_SYNC, 16, PUTS},
};

#define CONTENDERS_MAX 5

/* The first one is ours. */
struct field {
	const struct bench_config *config;
	struct key_space space;
	struct contender contenders[CONTENDERS_MAX];
	unsigned count;
};

static bool needs_paths(enum step_kind kind)
{
	return kind == STEP_LIST || kind == STEP_LIST_VALUES || kind == STEP_LIST_PAGE ||
	       kind == STEP_LIST_DIR || kind == STEP_METADATA_MIX;
}

static bool is_wanted(const struct bench_config *config, const struct workload *workload,
    const struct row *row)
{
	if (config->is_quick && !config->rows && !(row->flags & QUICK))
		return false;
	if (needs_paths(row->kind) && !workload->root)
		return false;
	return config_wants(config, workload->name, row->name);
}

static bool takes_part(const struct contender *contender, const struct row *row)
{
	return (row->flags & PUTS) || !contender->driver->writes_only;
}

static struct slice slice_of(const struct field *field, struct contender *contender,
    const struct row *row)
{
	bool is_slow = row->level == BENCH_SYNC;

	return (struct slice){
	    .driver = contender->driver,
	    .sessions = contender->sessions,
	    .space = &field->space,
	    .kind = row->kind,
	    .threads = row->threads,
	    .parts = row->threads,
	    .chunk_steps = is_slow ? 8 : CHUNK_STEPS,
	    .run_ns = field->config->slice_ns,
	    .warm_ns = field->config->slice_ns / 50,
	};
}

/* Rows that read must read the same from every engine. */
static void check_agreement(struct field *field, const struct row *row)
{
	struct bench_sink first = {0};

	for (unsigned i = 0; i < field->count; i++) {
		struct contender *contender = &field->contenders[i];
		struct slice slice = slice_of(field, contender, row);
		struct bench_sink sink;

		if (!takes_part(contender, row))
			continue;
		slice.seed = 1;
		sink = slice_sample(&slice);
		if (i == 0)
			first = sink;
		else if (sink.items != first.items || sink.sum != first.sum)
			bench_die("%s and %s read different things in row %s",
			    field->contenders[0].driver->name,
			    contender->driver->name, row->name);
	}
}

static void run_rounds(struct field *field, const struct row *row)
{
	for (unsigned round = 0; round < field->config->rounds; round++) {
		for (unsigned i = 0; i < field->count; i++) {
			struct contender *contender =
			    &field->contenders[(i + round) % field->count];
			struct slice slice = slice_of(field, contender, row);

			if (!takes_part(contender, row))
				continue;
			slice.seed = 1000 + round;
			contender->ns[round] = slice_run(&slice);
		}
	}
}

static void report_row(struct field *field, const struct row *row)
{
	struct contender *ours = &field->contenders[0];
	unsigned rounds = field->config->rounds;

	for (unsigned i = 1; i < field->count; i++) {
		struct contender *peer = &field->contenders[i];
		double ratios[ROUNDS_MAX];
		struct bench_figure figure = {.peer = peer->driver->name, .unit = "ns"};

		if (!takes_part(peer, row))
			continue;
		for (unsigned j = 0; j < rounds; j++)
			ratios[j] = peer->ns[j] / ours->ns[j];
		snprintf(figure.name, sizeof(figure.name), "%s/%s/%llu",
		    field->space.workload->name, row->name,
		    (unsigned long long)field->space.keys);
		figure.ours = median_of(ours->ns, rounds);
		figure.theirs = median_of(peer->ns, rounds);
		figure.ratio = median_of(ratios, rounds);
		snprintf(figure.setting, sizeof(figure.setting),
		    "%u thread%s, cache %llu MiB; ours: %s; peer: %s", row->threads,
		    row->threads == 1 ? "" : "s",
		    (unsigned long long)(ample_cache(field->space.keys) >> 20),
		    ours->driver->setting(row->level), peer->driver->setting(row->level));
		report_add(&figure);
	}
}

/* Everything is read once, in order, so that caches of engine and host hold it. */
static void warm_up(struct field *field, struct contender *contender)
{
	struct bench_sink sink = {0};
	uint8_t key[BENCH_KEY_MAX];

	for (uint64_t i = 0; i < field->space.keys; i += 8) {
		size_t bytes = key_at(&field->space, i, key);

		if (contender->driver->get(contender->sessions[0], key, bytes, &sink))
			bench_die("%s: key %llu was loaded and is not there",
			    contender->driver->name, (unsigned long long)i);
	}
	contender->driver->pause(contender->sessions[0]);
}

static void run_row(struct field *field, const struct row *row)
{
	for (unsigned i = 0; i < field->count; i++) {
		struct contender *contender = &field->contenders[i];
		bool is_new = contender->level != row->level;

		if (!takes_part(contender, row))
			continue;
		contender_sessions(contender, row->threads, row->level);
		if (is_new)
			warm_up(field, contender);
	}
	if (!(row->flags & PUTS))
		check_agreement(field, row);
	/* What earlier rows left in the host's cache would else be written, and waited
	 * for, while others measure what a flush takes. */
	if (row->level == BENCH_SYNC)
		sync();
	run_rounds(field, row);
	report_row(field, row);
}

static void enter(struct field *field, const struct bench_driver *driver)
{
	struct bench_options options = {
	    .keys = field->space.keys,
	    .cache_bytes = ample_cache(field->space.keys),
	};
	struct contender *contender = &field->contenders[field->count++];

	contender_open(contender, field->config, driver, &options);
	contender_load(contender, &field->space, false);
	if (contender->driver->settle(contender->engine))
		bench_die("%s: does not settle", driver->name);
	warm_up(field, contender);
}

void run_speed_rows(const struct bench_config *config, const struct workload *workload,
    uint64_t keys)
{
	static const struct bench_driver *const drivers[CONTENDERS_MAX] = {&driver_holt,
	    &driver_lmdb, &driver_lmdb_writemap, &driver_rocksdb, &driver_sqlite};
	struct field field = {.config = config};
	unsigned wanted = 0, puts = 0;

	for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
		bool is_in = is_wanted(config, workload, &rows[i]);

		wanted += is_in;
		puts += is_in && rows[i].flags & PUTS;
	}
	if (!wanted)
		return;
	key_space_init(&field.space, workload, keys);
	for (unsigned i = 0; i < CONTENDERS_MAX; i++)
		if (i == 0 || (config_wants_peer(config, drivers[i]->name) &&
				  (puts || !drivers[i]->writes_only)))
			enter(&field, drivers[i]);
	for (unsigned i = 0; i < ARRAY_COUNT(rows); i++)
		if (is_wanted(config, workload, &rows[i]))
			run_row(&field, &rows[i]);
	for (unsigned i = 0; i < field.count; i++)
		contender_close(&field.contenders[i]);
}
