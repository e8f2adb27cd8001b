/*
 * Work in a process of its own: with memory that is counted from nothing, that may be
 * limited, and that may end by being killed.
 */
#ifndef BENCH_ENGINE_CHILD_H
#define BENCH_ENGINE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory that a child's writes show in. */
void *shared_memory(size_t bytes);
void shared_memory_free(void *memory, size_t bytes);

/* Runs @work in a child and waits for it.  A child that fails ends the caller too. */
void child_run(void (*work)(void *ctx), void *ctx);

/* The same for a child that kills itself in the end. */
void child_run_killed(void (*work)(void *ctx), void *ctx);

/* What this process has done and is, from /proc. */
struct process_usage {
	uint64_t read_bytes, write_bytes; /* of devices */
	uint64_t read_calls;
	uint64_t major_faults;
	uint64_t resident_bytes;
};
void process_usage(struct process_usage *ret);

/* Limits this process and what the host caches for it to @bytes, in a cgroup of that
 * name.  False: no memory cgroup is to be had here. */
bool limit_memory(const char *name, uint64_t bytes);
void limit_memory_end(const char *name); /* when all in it have ended */

/* Lets the host forget what it has cached of the files in @dir. */
void forget_files(const char *dir);

#endif
