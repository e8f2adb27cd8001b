/*
 * A main for fuzz targets: calls the target with every file of its corpus, or with the
 * files and directories that are named.
 *
 * Each input's name is printed before it is tried, so that the last line tells which one
 * did not come back, and each has its time, so that all of them do.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define SECONDS_MAX	60
#define CPU_SECONDS_MAX 5

static unsigned tried;

/* The process is killed when the time is up.  0: no more. */
static void give_time(unsigned seconds, unsigned cpu_seconds)
{
	struct itimerval timer = {.it_value.tv_sec = cpu_seconds};

	alarm(seconds);
	setitimer(ITIMER_PROF, &timer, NULL);
}

static int try_file(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
	FILE *file;
	uint8_t *data;

	if (type != FTW_F)
		return 0;
	printf("%s\n", path);
	fflush(stdout);
	/* No larger than it is, so that a sanitizer sees who reads behind the end. */
	data = malloc((size_t)stat->st_size);
	file = fopen(path, "rb");
	if (!file || (stat->st_size && !data) ||
	    fread(data, 1, (size_t)stat->st_size, file) != (size_t)stat->st_size) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	fclose(file);
	give_time(SECONDS_MAX, CPU_SECONDS_MAX);
	LLVMFuzzerTestOneInput(data, (size_t)stat->st_size);
	give_time(0, 0);
	free(data);
	tried++;
	return 0;
}

int main(int argc, char **argv)
{
	const char *sources = getenv("top_srcdir"), *name = strrchr(argv[0], '/');
	char corpus[4096];
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= nftw(argv[i], try_file, 8, FTW_PHYS);
	if (argc == 1) {
		snprintf(corpus, sizeof(corpus), "%s/tests/fuzz/corpus/%s", sources ? sources : ".",
		    name ? name + 1 : argv[0]);
		failed = nftw(corpus, try_file, 8, FTW_PHYS);
	}
	if (failed < 0)
		fprintf(stderr, "%s: %s\n", argc == 1 ? corpus : argv[0], strerror(errno));
	printf("%u inputs\n", tried);
	return failed || !tried ? EXIT_FAILURE : EXIT_SUCCESS;
}
