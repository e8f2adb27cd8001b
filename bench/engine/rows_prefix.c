/*
 * Moving and dropping all keys below a prefix, over different layouts.
 *
 * A layout is drawn from its number: how deep the prefix lies, how long its names are,
 * how the keys below it branch, how many others lie beside it, before and behind, whether
 * the destination is a neighbour or far away, and whether the frames have just been
 * written or are all dirty.  What is reported is the median and the worst of the first
 * move or drop in each layout.  Of a drop the visible part counts; the rest is done in
 * the background.
 */
#include "config.h"

#include "bench/engine/bench_engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "bench/engine/child.h"
#include "bench/engine/ours.h"
#include "bench/engine/report.h"
#include "bench/engine/slice.h"

#define LAYOUTS 32

struct layout {
	const struct bench_config *config;
	bool is_drop;
	unsigned number;
	uint64_t keys;
	double ns;

	/* drawn */
	struct bench_random random;
	char prefix[BENCH_KEY_MAX / 4], target[BENCH_KEY_MAX / 4];
	uint64_t dir_keys, other_keys;
	unsigned name_bytes;
};

static void add_name(struct layout *layout, char *path, unsigned bytes)
{
	size_t length = strlen(path);

	for (unsigned i = 0; i < bytes; i++)
		path[length++] = (char)('a' + random_below(&layout->random, 26));
	path[length++] = '/';
	path[length] = 0;
}

static void draw(struct layout *layout)
{
	struct bench_random *random = &layout->random;
	unsigned depth;

	random->state = mix_bits(layout->number + 1);
	depth = (unsigned)random_below(random, 4);
	layout->prefix[0] = 0;
	for (unsigned i = 0; i < depth; i++)
		add_name(layout, layout->prefix, 1 + (unsigned)random_below(random, 9));
	memcpy(layout->target, layout->prefix, sizeof(layout->target));
	if (random_below(random, 2)) {
		layout->target[0] = 0;
		add_name(layout, layout->target, 7);
	}
	add_name(layout, layout->prefix, 2 + (unsigned)random_below(random, 10));
	add_name(layout, layout->target, 12 + (unsigned)random_below(random, 4));
	layout->dir_keys = 1ull << (2 + random_below(random, 16));
	layout->other_keys = random_below(random, 3) * layout->keys / 4;
	layout->name_bytes = 4 + (unsigned)random_below(random, 24);
}

static void put_key(struct layout *layout, void *session, const char *prefix, uint64_t index)
{
	static const uint8_t value[32] = {1};
	char key[BENCH_KEY_MAX];
	const void *keys = key;
	const void *values = value;
	size_t bytes, value_bytes = sizeof(value);
	int err;

	bytes = (size_t)snprintf(key, sizeof(key), "%sd%llu/%0*llx", prefix,
	    (unsigned long long)(index / layout->dir_keys), (int)layout->name_bytes,
	    (unsigned long long)(layout->number % 2 ? mix_bits(index) : index));
	err = driver_holt.load(session, &keys, &bytes, &values, &value_bytes, 1);
	if (err)
		bench_die("ours: put: %s", strerror(-err));
}

static void fill(struct layout *layout, void *session)
{
	char parent[BENCH_KEY_MAX / 4];
	char *end;

	memcpy(parent, layout->prefix, sizeof(parent));
	parent[strlen(parent) - 1] = 0;
	end = strrchr(parent, '/');
	if (end)
		end[1] = 0;
	else
		parent[0] = 0;
	for (uint64_t i = 0; i < layout->keys; i++) {
		put_key(layout, session, layout->prefix, i);
		if (layout->other_keys && i % (layout->keys / layout->other_keys) == 0)
			put_key(layout, session, parent, i);
	}
}

static void must(int err, const char *what)
{
	if (err)
		bench_die("ours: %s: %s", what, strerror(-err));
}

static void run_layout(void *ctx)
{
	struct layout *layout = ctx;
	struct bench_options options = {
	    .keys = layout->keys,
	    .cache_bytes = ample_cache(2 * layout->keys),
	};
	struct contender contender;
	void *session;
	uint64_t from;

	draw(layout);
	contender_open(&contender, layout->config, &driver_holt, &options);
	contender_sessions(&contender, 1, BENCH_PROCESS);
	session = contender.sessions[0];
	fill(layout, session);
	if (layout->number % 4 < 2)
		must(driver_holt.settle(contender.engine), "checkpoint");
	from = bench_now_ns();
	if (layout->is_drop)
		must(ours_drop_prefix(session, layout->prefix, strlen(layout->prefix)), "drop");
	else
		must(ours_move_prefix(session, layout->prefix, strlen(layout->prefix),
			 layout->target, strlen(layout->target)),
		    "move");
	layout->ns = (double)(bench_now_ns() - from);
	contender_close(&contender);
}

static void run_work(const struct bench_config *config, const struct workload *workload,
    const char *row, bool is_drop, uint64_t keys)
{
	struct bench_figure figure = {.peer = "", .unit = "ns"};
	struct layout *layout = shared_memory(sizeof(*layout));
	double ns[LAYOUTS], worst = 0;

	for (unsigned i = 0; i < LAYOUTS; i++) {
		memset(layout, 0, sizeof(*layout));
		layout->config = config;
		layout->is_drop = is_drop;
		layout->number = i;
		layout->keys = keys;
		child_run(run_layout, layout);
		ns[i] = layout->ns;
		worst = max_of(worst, ns[i]);
	}
	shared_memory_free(layout, sizeof(*layout));
	figure.ours = median_of(ns, LAYOUTS);
	snprintf(figure.name, sizeof(figure.name), "%s/%s/%llu", workload->name, row,
	    (unsigned long long)keys);
	snprintf(figure.setting, sizeof(figure.setting),
	    "median of %d layouts; worst %.0f us; journal ring in shared memory", LAYOUTS,
	    worst / 1e3);
	report_add(&figure);
}

void run_prefix_rows(const struct bench_config *config, const struct workload *workload,
    uint64_t keys)
{
	static const char *const names[] = {"move_prefix", "drop_prefix"};

	for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
		if (!config_wants_long(config, workload->name, names[i], keys, 2000000))
			continue;
		run_work(config, workload, names[i], i, keys / 200);
		run_work(config, workload, names[i], i, keys / 2);
	}
}
