/*
 * datacheck FILE STEPS: random reads, writes, appends, truncations, allocations, holes
 * punched and found, mapped reads and writes, fsyncs and reopenings of one file, each
 * compared with a model in memory.
 * The idea is that of Apple's fsx.  TEST_SEED in the environment replays a run; the
 * seed is printed.  Afterwards the file is left as the model has it, and
 *
 * datacheck FILE STEPS verify: runs the model alone and compares the file with it:
 * for a look after an unmount.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (3u * 1024 * 1024)
#define RUN_MAX (200u * 1024)

static uint8_t model[FILE_MAX];
static uint8_t buffer[FILE_MAX];
static uint32_t model_bytes;
static const char *path;
static int fd = -1; /* -1 while only the model is run */
static uint64_t random_state;
static unsigned step;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "datacheck: step %u: %s: %s\n", step, what, strerror(errno));
	exit(EXIT_FAILURE);
}

/* xorshift64*, Vigna 2016. */
static uint32_t random_below(uint32_t end)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * 0x2545f4914f6cdd1dull) >> 33) % end;
}

/* Half of the lengths are small: edges of blocks matter more than bulk. */
static uint32_t random_length(void)
{
	return 1 + random_below(random_below(2) ? 5000 : RUN_MAX);
}

static void compare(const uint8_t *got, uint32_t offset, uint32_t bytes, const char *what)
{
	for (uint32_t i = 0; i < bytes; i++) {
		if (got[i] == model[offset + i])
			continue;
		fprintf(stderr, "datacheck: step %u: %s: byte %u is %02x, not %02x\n",
		    step, what, offset + i, got[i], model[offset + i]);
		exit(EXIT_FAILURE);
	}
}

static void open_file(int flags)
{
	fd = open(path, O_RDWR | O_CLOEXEC | flags, 0644);
	if (fd < 0)
		die("open");
}

static void check_size(void)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		die("fstat");
	if (st.st_size != model_bytes) {
		fprintf(stderr, "datacheck: step %u: the file has %lld bytes, not %u\n",
		    step, (long long)st.st_size, model_bytes);
		exit(EXIT_FAILURE);
	}
}

/* What the model and the file get: bytes that tell the step that wrote them. */
static void fill(uint32_t offset, uint32_t bytes)
{
	uint8_t start = (uint8_t)random_below(256);

	for (uint32_t i = 0; i < bytes; i++)
		model[offset + i] = (uint8_t)(start + i * 7 + (i >> 8));
	if (offset + bytes > model_bytes)
		model_bytes = offset + bytes;
}

static void do_write(void)
{
	uint32_t bytes = random_length();
	uint32_t offset = random_below(FILE_MAX - bytes);
	ssize_t done;

	/* Mostly near what is there, sometimes leaving a hole. */
	if (random_below(8))
		offset %= model_bytes + 1;
	fill(offset, bytes);
	if (fd < 0)
		return;
	done = pwrite(fd, model + offset, bytes, offset);
	if (done != (ssize_t)bytes)
		die("pwrite");
}

static void do_read(void)
{
	uint32_t bytes = random_length();
	uint32_t offset = random_below(model_bytes + 1);
	uint32_t expected = model_bytes - offset < bytes ? model_bytes - offset : bytes;

	if (fd < 0)
		return;
	if (pread(fd, buffer, bytes, offset) != (ssize_t)expected)
		die("pread");
	compare(buffer, offset, expected, "pread");
}

static void do_truncate(void)
{
	uint32_t bytes = random_below(random_below(2) ? model_bytes + 1 : FILE_MAX);

	if (bytes > model_bytes)
		memset(model + model_bytes, 0, bytes - model_bytes);
	else
		memset(model + bytes, 0, model_bytes - bytes);
	model_bytes = bytes;
	if (fd >= 0 && ftruncate(fd, bytes) != 0)
		die("ftruncate");
}

static void do_fallocate(void)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
	    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
	int mode = modes[random_below(sizeof(modes) / sizeof(modes[0]))];
	uint32_t bytes = random_length(), end;
	uint32_t offset = random_below(FILE_MAX - bytes);

	if (random_below(8))
		offset %= model_bytes + 1;
	end = offset + bytes;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > model_bytes) {
		memset(model + model_bytes, 0, end - model_bytes);
		model_bytes = end;
	}
	if ((mode & ~FALLOC_FL_KEEP_SIZE) && offset < model_bytes)
		memset(model + offset, 0, (end < model_bytes ? end : model_bytes) - offset);
	if (fd >= 0 && fallocate(fd, mode, offset, bytes) != 0)
		die("fallocate");
}

/* What lies between data is zeros, and data begins and ends where it is said to. */
static void do_seek(void)
{
	off_t at = random_below(model_bytes + 1), data;

	if (fd < 0)
		return;
	data = lseek(fd, at, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		die("SEEK_DATA");
	if (data < 0)
		data = model_bytes;
	memset(buffer, 0, (size_t)(data - at));
	compare(buffer, (uint32_t)at, (uint32_t)(data - at), "a hole");
	if (data < model_bytes && lseek(fd, data, SEEK_HOLE) <= data)
		die("SEEK_HOLE");
}

static void do_map(bool is_write)
{
	uint32_t bytes, offset;
	uint8_t *map;

	if (model_bytes < 2)
		return;
	offset = random_below(model_bytes - 1);
	bytes = 1 + random_below(model_bytes - offset < RUN_MAX ? model_bytes - offset : RUN_MAX);
	if (is_write)
		fill(offset, bytes);
	if (fd < 0)
		return;
	map = mmap(NULL, model_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	if (is_write)
		memcpy(map + offset, model + offset, bytes);
	else
		compare(map + offset, offset, bytes, "mapped read");
	if (munmap(map, model_bytes) != 0)
		die("munmap");
}

static void do_reopen(void)
{
	bool drops_cache = random_below(2);

	if (fd < 0)
		return;
	if (fsync(fd) != 0)
		die("fsync");
	if (drops_cache)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (close(fd) != 0)
		die("close");
	open_file(0);
}

static void do_step(void)
{
	uint32_t kind = random_below(100);

	if (kind < 40)
		do_write();
	else if (kind < 70)
		do_read();
	else if (kind < 80)
		do_truncate();
	else if (kind < 82)
		do_seek();
	else if (kind < 88)
		do_fallocate();
	else if (kind < 92)
		do_map(false);
	else if (kind < 97)
		do_map(true);
	else
		do_reopen();
	if (fd >= 0)
		check_size();
}

static void compare_whole(void)
{
	check_size();
	if (pread(fd, buffer, FILE_MAX, 0) != (ssize_t)model_bytes)
		die("pread of the whole");
	compare(buffer, 0, model_bytes, "whole file");
}

int main(int argc, char **argv)
{
	const char *seed = getenv("TEST_SEED");
	unsigned long steps;
	bool is_verify;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: datacheck FILE STEPS [verify]\n");
		return EXIT_FAILURE;
	}
	path = argv[1];
	steps = strtoul(argv[2], NULL, 10);
	is_verify = argc == 4;
	random_state = seed ? strtoull(seed, NULL, 0) : 20240229;
	printf("TEST_SEED=%llu\n", (unsigned long long)random_state);
	if (!random_state)
		random_state = 1;
	if (!is_verify)
		open_file(O_CREAT | O_EXCL);
	for (step = 0; step < steps; step++)
		do_step();
	if (is_verify)
		open_file(0);
	compare_whole();
	return close(fd) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
