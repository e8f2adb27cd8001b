/*
 * A slice: one engine works at one row for a while, with one thread or more.
 */
#ifndef BENCH_ENGINE_SLICE_H
#define BENCH_ENGINE_SLICE_H

#include "bench/engine/steps.h"

struct slice {
	const struct bench_driver *driver;
	void **sessions; /* one a thread */
	const struct key_space *space;
	enum step_kind kind;
	unsigned threads;
	unsigned parts; /* threads that the keys are divided among; at least @threads */
	unsigned chunk_steps;
	uint64_t seed;
	uint64_t warm_ns, run_ns; /* the first warms up caches and does not count */
	uint64_t *ret_steps;	  /* may be NULL */
};

/* Nanoseconds an operation: of all threads together, so half as many if two threads do
 * twice as much. */
double slice_run(const struct slice *slice);

/* Takes a few steps and sums up what was read. */
struct bench_sink slice_sample(const struct slice *slice);

uint64_t bench_now_ns(void);

#endif
