/*
 * The table and the JSON file.  Figures in nanoseconds fill "ours_ns" and "peer_ns";
 * figures of other units "ours" and "peer_value" as well as "unit", and null there.
 */
#include "config.h"

#include "bench/engine/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "bench/engine/child.h"
#include "bench/engine/driver.h"

#define FIGURES_MAX 4096

/* In memory shared with the children; one of them runs at a time. */
static struct report {
	unsigned count;
	struct bench_figure figures[FIGURES_MAX];
} *report;

void report_begin(void)
{
	report = shared_memory(sizeof(*report));
}

static void print_number(double number)
{
	if (number == 0)
		printf("%10s", "-");
	else
		printf("%10.*f", number < 10 ? 2 : number < 1000 ? 1 : 0, number);
}

static void print_line(const struct bench_figure *figure)
{
	if (report->count == 0)
		printf("%-34s %-14s%10s%10s %-9s%8s  %s\n", "row", "peer", "ours",
		    "peer", "unit", "ratio", "setting");
	printf("%-34s %-14s", figure->name, figure->peer);
	print_number(figure->ours);
	print_number(figure->theirs);
	printf(" %-9s", figure->unit);
	if (figure->ratio == 0)
		printf("%8s", "-");
	else
		printf("%8.2f", figure->ratio);
	printf("  %s\n", figure->setting);
	fflush(stdout);
}

void report_add(const struct bench_figure *figure)
{
	print_line(figure);
	if (report->count == FIGURES_MAX)
		bench_die("more than %d figures", FIGURES_MAX);
	report->figures[report->count++] = *figure;
}

void report_note(const char *format, ...)
{
	va_list args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

static void write_number(FILE *file, const char *name, double number)
{
	if (number == 0)
		fprintf(file, ", \"%s\": null", name);
	else
		fprintf(file, ", \"%s\": %.6g", name, number);
}

/* Names and settings are ours: no quotes, no backslashes. */
static void write_figure(FILE *file, const struct bench_figure *figure, bool is_last)
{
	bool is_time = strcmp(figure->unit, "ns") == 0;

	fprintf(file, "  {\"name\": \"%s\", \"peer\": \"%s\"", figure->name, figure->peer);
	write_number(file, "ours_ns", is_time ? figure->ours : 0);
	write_number(file, "peer_ns", is_time ? figure->theirs : 0);
	write_number(file, "ratio", figure->ratio);
	fprintf(file, ", \"unit\": \"%s\"", figure->unit);
	if (!is_time) {
		write_number(file, "ours", figure->ours);
		write_number(file, "peer_value", figure->theirs);
	}
	fprintf(file, ", \"setting\": \"%s\"}%s\n", figure->setting, is_last ? "" : ",");
}

int report_write(const char *path)
{
	char temporary[4096];
	struct stat now;
	bool is_replaced;
	FILE *file;
	int err = 0;

	/* A device stays one: /dev/null is not to become a file. */
	is_replaced = stat(path, &now) != 0 || S_ISREG(now.st_mode);
	snprintf(temporary, sizeof(temporary), is_replaced ? "%s.new" : "%s", path);
	file = fopen(temporary, "w");
	if (!file)
		return -errno;
	fprintf(file, "[\n");
	for (unsigned i = 0; i < report->count; i++)
		write_figure(file, &report->figures[i], i + 1 == report->count);
	fprintf(file, "]\n");
	if (ferror(file))
		err = -EIO;
	if (fclose(file) != 0 && !err)
		err = -errno;
	if (!err && is_replaced && rename(temporary, path) != 0)
		err = -errno;
	if (err && is_replaced)
		unlink(temporary);
	return err;
}

static int compare_numbers(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median_of(const double *numbers, unsigned count)
{
	double sorted[64];

	if (count == 0 || count > ARRAY_COUNT(sorted))
		bench_die("the median of %u numbers", count);
	memcpy(sorted, numbers, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), compare_numbers);
	return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}
