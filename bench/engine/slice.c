/*
 * Slices.  Every thread draws a chunk of steps, then takes it with the clock running;
 * its rate is steps over the time on the clock, the slice's rate the sum of its
 * threads'.
 */
#include "config.h"

#include "bench/engine/slice.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/bytes.h"

struct worker {
	const struct slice *slice;
	unsigned number;
	pthread_barrier_t *barrier;
	pthread_t thread;
	uint64_t steps, busy_ns;
	struct bench_sink sink;
	struct step_stream stream;
};

uint64_t bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void run_until(struct worker *worker, uint64_t end_ns)
{
	const struct slice *slice = worker->slice;
	uint64_t from, to;

	do {
		step_stream_fill(&worker->stream, slice->chunk_steps);
		from = bench_now_ns();
		steps_take(&worker->stream, slice->chunk_steps, slice->driver,
		    slice->sessions[worker->number], &worker->sink);
		to = bench_now_ns();
		worker->steps += slice->chunk_steps;
		worker->busy_ns += to - from;
	} while (to < end_ns);
}

static void *work(void *ctx)
{
	struct worker *worker = ctx;
	const struct slice *slice = worker->slice;
	uint64_t now;

	step_stream_init(&worker->stream, slice->space, slice->kind, worker->number,
	    slice->parts, slice->seed);
	pthread_barrier_wait(worker->barrier);
	now = bench_now_ns();
	if (slice->warm_ns)
		run_until(worker, now + slice->warm_ns);
	worker->steps = 0;
	worker->busy_ns = 0;
	run_until(worker, now + slice->warm_ns + slice->run_ns);
	slice->driver->pause(slice->sessions[worker->number]);
	return NULL;
}

double slice_run(const struct slice *slice)
{
	struct worker *workers = calloc(slice->threads, sizeof(*workers));
	pthread_barrier_t barrier;
	uint64_t steps = 0;
	double rate = 0;

	if (!workers)
		bench_die("out of memory");
	pthread_barrier_init(&barrier, NULL, slice->threads);
	for (unsigned i = 0; i < slice->threads; i++) {
		workers[i].slice = slice;
		workers[i].number = i;
		workers[i].barrier = &barrier;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			bench_die("no thread");
	}
	for (unsigned i = 0; i < slice->threads; i++) {
		pthread_join(workers[i].thread, NULL);
		steps += workers[i].steps;
		rate += (double)workers[i].steps / (double)workers[i].busy_ns;
	}
	pthread_barrier_destroy(&barrier);
	free(workers);
	if (slice->ret_steps)
		*slice->ret_steps = steps;
	return 1 / rate;
}

struct bench_sink slice_sample(const struct slice *slice)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	struct bench_sink sink;

	if (!worker)
		bench_die("out of memory");
	step_stream_init(&worker->stream, slice->space, slice->kind, 0, slice->parts,
	    slice->seed);
	step_stream_fill(&worker->stream, CHUNK_STEPS);
	steps_take(&worker->stream, CHUNK_STEPS, slice->driver, slice->sessions[0],
	    &worker->sink);
	slice->driver->pause(slice->sessions[0]);
	sink = worker->sink;
	free(worker);
	return sink;
}
