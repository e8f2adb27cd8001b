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
#include <unistd.h>

#include "bench/engine/driver.h"

static struct bench_figure *figures;
static unsigned figure_count, figure_size;

static void print_number(double number)
{
	if (number == 0)
		printf("%10s", "-");
	else
		printf("%10.*f", number < 10 ? 2 : number < 1000 ? 1 : 0, number);
}

static void print_line(const struct bench_figure *figure)
{
	if (figure_count == 0)
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
	if (figure_count == figure_size) {
		figure_size = figure_size ? 2 * figure_size : 64;
		figures = realloc(figures, figure_size * sizeof(*figures));
		if (!figures)
			bench_die("out of memory");
	}
	figures[figure_count++] = *figure;
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
	FILE *file;
	int err = 0;

	snprintf(temporary, sizeof(temporary), "%s.new", path);
	file = fopen(temporary, "w");
	if (!file)
		return -errno;
	fprintf(file, "[\n");
	for (unsigned i = 0; i < figure_count; i++)
		write_figure(file, &figures[i], i + 1 == figure_count);
	fprintf(file, "]\n");
	if (ferror(file))
		err = -EIO;
	if (fclose(file) != 0 && !err)
		err = -errno;
	if (!err && rename(temporary, path) != 0)
		err = -errno;
	if (err)
		unlink(temporary);
	return err;
}

static int compare_numbers(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median_of(double *numbers, unsigned count)
{
	qsort(numbers, count, sizeof(*numbers), compare_numbers);
	return count % 2 ? numbers[count / 2] :
			   (numbers[count / 2 - 1] + numbers[count / 2]) / 2;
}
