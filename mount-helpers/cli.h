/*
 * What the command-line tools share: --help and --version, messages, sizes.
 *
 * A program describes itself in a struct cli_program and calls cli_begin() first.
 * Messages go to standard error as "PROGRAM: TEXT", one line each; so do the log
 * lines of core/.  Exit codes differ from tool to tool (fsck(8) and mount(8)
 * define their own), so each program names its own for bad usage.
 */
#ifndef HOLTFS_MOUNT_HELPERS_CLI_H
#define HOLTFS_MOUNT_HELPERS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cli_program {
	const char *name;
	const char *synopsis; /* after "usage: NAME " */
	const char *help;     /* what --help says below the synopsis */
	int usage_exit;	      /* exit code for wrong options or arguments */
};

/* @program lives as long as the process.  Log lines of core/ from warnings up go
 * to standard error; all of them with @is_verbose. */
void cli_begin(const struct cli_program *program);
void cli_set_verbose(bool is_verbose);

/* "NAME: text" on standard error. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, then a pointer to --help; returns the program's usage_exit. */
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* To standard output; return 0, or 1 when it could not be written. */
int cli_print_help(void);
int cli_print_version(void);

/*
 * Ends the program's output: -EIO if something written to standard output did not
 * arrive there (a full disk, a closed pipe).
 */
int cli_finish_output(void);

/*
 * A number of bytes: digits, then nothing or one of K, M, G, T (also as KiB or k),
 * powers of 1024.  -EINVAL: not such a number; -ERANGE: above 2^63.
 */
int cli_parse_size(const char *text, uint64_t *ret_bytes);

#define CLI_SIZE_TEXT 24

/* "512 B", "1.5 GiB". */
void cli_format_size(uint64_t bytes, char text[CLI_SIZE_TEXT]);

#endif
