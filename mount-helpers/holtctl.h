/*
 * holtctl: what its files share.  A command gets the parsed command line and answers
 * with an exit code, having said on standard error what went wrong.
 */
#ifndef HOLTFS_MOUNT_HELPERS_HOLTCTL_H
#define HOLTFS_MOUNT_HELPERS_HOLTCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "holt/holt.h"

enum exit_code {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,  /* could not be done */
	EXIT_USAGE = 2,   /* wrong options or arguments */
	EXIT_REFUSED = 3, /* no such key, or a condition that does not hold */
	EXIT_DAMAGED = 4, /* check found damage */
};

/* Bytes that the caller frees. */
struct text {
	char *bytes;
	size_t count;
};

struct arguments {
	const char *command, *path;
	char **rest; /* behind the volume */
	int rest_count;

	bool is_json, is_quiet, is_forced, is_raw, is_long, is_prometheus;
	bool from_stdin, if_absent, has_version, has_start, has_delimiter;
	uint64_t version, limit, size_bytes, cache_bytes;
	struct text prefix, start;
	uint8_t delimiter;
	const char *label;
};

int run_create(const struct arguments *arguments);
int run_get(const struct arguments *arguments);
int run_put(const struct arguments *arguments);
int run_del(const struct arguments *arguments);
int run_ls(const struct arguments *arguments);
int run_dump(const struct arguments *arguments);
int run_load(const struct arguments *arguments);
int run_stats(const struct arguments *arguments);
int run_check(const struct arguments *arguments);
int run_compact(const struct arguments *arguments);
int run_checkpoint(const struct arguments *arguments);

/* Opens the volume; NULL, having said why not.  @flags as in struct holt_options.  A
 * volume with a file system in it is opened for writing only with --force. */
struct holt *open_store(const struct arguments *arguments, unsigned flags, bool changes_keys);

/* @code, or EXIT_FAILED if closing or standard output failed. */
int close_store(const struct arguments *arguments, struct holt *holt, int code);

/* Says "PATH: WHAT: reason" and gives the exit code for @err. */
int failed(const struct arguments *arguments, const char *what, int err);

/* ---- text ----------------------------------------------------------------- */

/*
 * Any bytes as printable ASCII without spaces at risk: \\, \t, \n, and \xHH for all that
 * is not between space and tilde.
 */
char *escape(const void *bytes, size_t count); /* from malloc(); NULL: no memory */

/* The other way; -EINVAL: a backslash that begins nothing. */
int unescape(const char *text, size_t count, struct text *ret);

/* One line: key, and with @with_value a tab and the value. */
int print_item(const struct arguments *arguments, const struct holt_item *item, bool with_value);

/* ---- progress ----------------------------------------------------------------- */

/* A bar on standard error if that is a terminal; @total 0: not known, a number then. */
void show_progress(const struct arguments *arguments, uint64_t done, uint64_t total);
void end_progress(void);

#endif
