/*
 * Messages, sizes and the two options every tool has.
 *
 * A message is one line, names its object and says what to do; it is written with
 * one write(2) call, so that lines of programs that run side by side do not mix.
 * Standard output is checked once, at the end: a tool whose answer did not reach
 * its reader has failed.
 */
#include "config.h"

#include "mount-helpers/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"

#define LINE_BYTES 2048

static const struct cli_program *cli_program; /* set at start, then constant */
static enum log_level log_threshold = LOG_LEVEL_WARNING;

static void print_line(const char *text)
{
	fprintf(stderr, "%s: %s\n", cli_program->name, text);
}

static void print_log_line(void *ctx, enum log_level level, const char *line)
{
	if (level <= log_threshold)
		print_line(line);
}

void cli_begin(const struct cli_program *program)
{
	cli_program = program;
	setvbuf(stderr, NULL, _IOLBF, LINE_BYTES);
	log_set_sink(print_log_line, NULL);
}

void cli_set_verbose(bool is_verbose)
{
	log_threshold = is_verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING;
}

static void print_message(const char *format, va_list ap)
{
	char line[LINE_BYTES];

	vsnprintf(line, sizeof(line), format, ap);
	print_line(line);
}

void cli_error(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	print_message(format, ap);
	va_end(ap);
}

int cli_usage(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	print_message(format, ap);
	va_end(ap);
	fprintf(stderr, "Try '%s --help'.\n", cli_program->name);
	return cli_program->usage_exit;
}

int cli_finish_output(void)
{
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : -EIO;
}

int cli_print_help(void)
{
	printf("usage: %s %s\n\n%s", cli_program->name, cli_program->synopsis,
	    cli_program->help);
	return cli_finish_output() ? 1 : 0;
}

int cli_print_version(void)
{
	printf("%s %s\n", cli_program->name, PACKAGE_VERSION);
	return cli_finish_output() ? 1 : 0;
}

/* The power of 1024 that a suffix stands for, -1: none. */
static int suffix_power(const char *suffix)
{
	static const char letters[] = "KMGT";
	const char *found;

	if (!*suffix)
		return 0;
	found = strchr(letters, toupper((unsigned char)*suffix));
	if (!found || (suffix[1] && strcmp(suffix + 1, "iB") != 0))
		return -1;
	return (int)(found - letters) + 1;
}

int cli_parse_size(const char *text, uint64_t *ret_bytes)
{
	unsigned long long number;
	char *end;
	int power;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	power = suffix_power(end);
	if (power < 0)
		return -EINVAL;
	if (number > (uint64_t)INT64_MAX >> (10 * power))
		return -ERANGE;
	*ret_bytes = (uint64_t)number << (10 * power);
	return 0;
}

void cli_format_size(uint64_t bytes, char text[CLI_SIZE_TEXT])
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double size = (double)bytes / 1024;
	unsigned unit = 0;

	if (bytes < 1024) {
		snprintf(text, CLI_SIZE_TEXT, "%u B", (unsigned)bytes);
		return;
	}
	while (size >= 1024 && unit + 1 < ARRAY_COUNT(units)) {
		size /= 1024;
		unit++;
	}
	snprintf(text, CLI_SIZE_TEXT, "%.1f %s", size, units[unit]);
}
