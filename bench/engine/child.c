/*
 * Children, and what the kernel knows about a process.
 *
 * A memory cgroup (version 2, or 1 where the host has that) is the only way to give LMDB
 * a cache of a given size: its cache is the host's.  The cgroup counts the page cache of
 * the files a process reads first, so they must have been forgotten before.
 */
#include "config.h"

#include "bench/engine/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/engine/driver.h"

void *shared_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		bench_die("mmap: %s", strerror(errno));
	return memory;
}

void shared_memory_free(void *memory, size_t bytes)
{
	munmap(memory, bytes);
}

static int run(void (*work)(void *ctx), void *ctx)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work(ctx);
		fflush(stdout);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			bench_die("waitpid: %s", strerror(errno));
	return status;
}

void child_run(void (*work)(void *ctx), void *ctx)
{
	int status = run(work, ctx);

	if (WIFSIGNALED(status))
		bench_die("a part of the work was ended by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		exit(1);
}

void child_run_killed(void (*work)(void *ctx), void *ctx)
{
	int status = run(work, ctx);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		exit(1);
}

/* The number behind @name in a file of lines "NAME: NUMBER". */
static uint64_t number_in(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	uint64_t number = 0;
	char line[256];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
			number = strtoull(line + strlen(name) + 1, NULL, 10);
	fclose(file);
	return number;
}

void process_usage(struct process_usage *ret)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	ret->read_bytes = number_in("/proc/self/io", "read_bytes");
	ret->write_bytes = number_in("/proc/self/io", "write_bytes");
	ret->read_calls = number_in("/proc/self/io", "syscr");
	ret->major_faults = (uint64_t)usage.ru_majflt;
	ret->resident_bytes = number_in("/proc/self/status", "VmRSS") << 10;
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool is_written;

	if (fd < 0)
		return false;
	is_written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return is_written;
}

/* Where memory cgroups are, and what their limit is called, in versions 2 and 1. */
static const struct {
	const char *dir, *limit;
} cgroups[] = {
    {"/sys/fs/cgroup", "memory.max"},
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
};

static bool enter_cgroup(unsigned version, const char *name, uint64_t bytes)
{
	char path[512], text[32];

	snprintf(path, sizeof(path), "%s/%s", cgroups[version].dir, name);
	if (mkdir(path, 0755) != 0 && errno != EEXIST)
		return false;
	snprintf(path, sizeof(path), "%s/%s/%s", cgroups[version].dir, name,
	    cgroups[version].limit);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	if (!write_file(path, text))
		return false;
	snprintf(path, sizeof(path), "%s/%s/cgroup.procs", cgroups[version].dir, name);
	return write_file(path, "0");
}

bool limit_memory(const char *name, uint64_t bytes)
{
	return enter_cgroup(0, name, bytes) || enter_cgroup(1, name, bytes);
}

void limit_memory_end(const char *name)
{
	char path[512];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", cgroups[i].dir, name);
		rmdir(path);
	}
}

void forget_files(const char *dir)
{
	DIR *listing = opendir(dir);
	struct dirent *entry;

	if (!listing)
		bench_die("%s: %s", dir, strerror(errno));
	while ((entry = readdir(listing))) {
		int fd = openat(dirfd(listing), entry->d_name, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		fsync(fd);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	closedir(listing);
}
