/*
 * Figures: a line each on the terminal as they come, and all of them as JSON at the end.
 */
#ifndef BENCH_ENGINE_REPORT_H
#define BENCH_ENGINE_REPORT_H

#include <stdbool.h>

struct bench_figure {
	char name[96];
	const char *peer; /* "" where there is nobody to compare with */
	double ours, theirs, ratio; /* ratio: above 1 where ours is better; 0: none */
	const char *unit;
	char setting[400];
};

/* Before the first fork: figures added by children count. */
void report_begin(void);

/* Prints the figure and keeps a copy. */
void report_add(const struct bench_figure *figure);

/* A remark between the figures. */
__attribute__((format(printf, 1, 2))) void report_note(const char *format, ...);

/* 0 or -errno. */
int report_write(const char *path);

/* Of at most 64 numbers. */
double median_of(const double *numbers, unsigned count);

#endif
