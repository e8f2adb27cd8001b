/*
 * Random requests to a file system, each entered in a history.  Every request is one
 * that has to succeed; when it answers something else the run ends and says so.
 */
#ifndef HOLTFS_TESTS_REQUESTS_H
#define HOLTFS_TESTS_REQUESTS_H

#include "fs/fs.h"
#include "tests/crash/history.h"

struct requests {
	struct history *history;
	struct fs *fs;
	struct device *recording; /* counts events; NULL: they are 0 */
	uint64_t random;
	uint64_t bytes_max; /* of all files together */
	int first_hot;	    /* nodes from here on are picked more often */
	int error;	    /* of the first request that failed; no more follow */
	bool is_under_way;  /* a request began and has not succeeded */
};

/* A tree of some hundred files that the requests begin with, and as much log written
 * as @log_bytes says; durable. */
void requests_prepare(struct requests *r, uint32_t files, uint64_t log_bytes);

/* One random request, or a few that belong together. */
void requests_step(struct requests *r);

/* Everything so far durable. */
void requests_sync(struct requests *r);

#endif
