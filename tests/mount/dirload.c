/*
 * dirload DIRECTORY COUNT: makes COUNT empty files in a new directory, lists them,
 * stats each, removes them all, and prints how many microseconds an entry took in
 * each phase:
 *
 *     create 14.1 list 0.9 stat 3.0 remove 15.2
 *
 * Names are numbers in an order that is neither sorted nor grouped: i is multiplied
 * by an odd constant, modulo the next power of two, which visits each number once.
 * Ends with an error unless every entry is seen exactly once.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint32_t count;
static uint32_t range; /* a power of two, at least count */
static int dir_fd;

static _Noreturn void die(const char *what, const char *name)
{
	fprintf(stderr, "dirload: %s %s: %s\n", what, name, strerror(errno));
	exit(EXIT_FAILURE);
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void name_of(uint32_t i, char name[32])
{
	snprintf(name, 32, "file-%08x", (i * 2654435761u) & (range - 1));
}

static void create_one(uint32_t i)
{
	char name[32];
	int fd;

	name_of(i, name);
	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		die("create", name);
	close(fd);
}

static void stat_one(uint32_t i)
{
	char name[32];
	struct stat st;

	name_of(i, name);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		die("stat", name);
	if (!S_ISREG(st.st_mode) || st.st_size != 0) {
		errno = EILSEQ;
		die("stat", name);
	}
}

static void remove_one(uint32_t i)
{
	char name[32];

	name_of(i, name);
	if (unlinkat(dir_fd, name, 0) != 0)
		die("remove", name);
}

/* Microseconds an entry. */
static double time_each(void (*fn)(uint32_t i))
{
	double start = now_us();

	for (uint32_t i = 0; i < count; i++)
		fn(i);
	return (now_us() - start) / count;
}

static double list(uint32_t expected)
{
	uint8_t *seen = calloc(range, 1);
	DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	double start = now_us();
	uint32_t found = 0;
	struct dirent *entry;

	if (!seen || !dir)
		die("list", ".");
	while ((entry = readdir(dir))) {
		unsigned number;

		if (sscanf(entry->d_name, "file-%8x", &number) != 1)
			continue;
		if (number >= range || seen[number]++) {
			errno = EEXIST;
			die("listed twice:", entry->d_name);
		}
		found++;
	}
	closedir(dir);
	free(seen);
	if (found != expected) {
		fprintf(stderr, "dirload: listed %u of %u entries\n", found, expected);
		exit(EXIT_FAILURE);
	}
	return (now_us() - start) / (expected ? expected : 1);
}

int main(int argc, char **argv)
{
	double create_us, list_us, stat_us, remove_us;

	if (argc != 3 || (count = (uint32_t)strtoul(argv[2], NULL, 10)) == 0 ||
	    count > 1u << 30) {
		fprintf(stderr, "usage: dirload DIRECTORY COUNT\n");
		return EXIT_FAILURE;
	}
	for (range = 1; range < count; range *= 2)
		;
	if (mkdir(argv[1], 0755) != 0)
		die("mkdir", argv[1]);
	dir_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		die("open", argv[1]);
	create_us = time_each(create_one);
	list_us = list(count);
	stat_us = time_each(stat_one);
	remove_us = time_each(remove_one);
	list(0);
	if (rmdir(argv[1]) != 0)
		die("rmdir", argv[1]);
	printf("create %.2f list %.2f stat %.2f remove %.2f\n", create_us,
	    list_us, stat_us, remove_us);
	return EXIT_SUCCESS;
}
