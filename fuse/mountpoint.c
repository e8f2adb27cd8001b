/*
 * The mount point, before and after.
 *
 * libfuse and fusermount3 report failures in their own words and mostly without the
 * cause.  So the causes users meet are looked for first, each with its own line.
 * Between the look and the mount things may change; then the mount itself fails and
 * says so.
 *
 * Who mounts: root by mount(2); others through fusermount3, a set-user-id program,
 * which demands a mount point the user may write to and, for allow_other, a line in
 * /etc/fuse.conf.
 */
#include "config.h"

#include "fuse/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define FUSE_DEVICE  "/dev/fuse"
#define FUSE_CONF    "/etc/fuse.conf"
#define READAHEAD_KB 4096 /* 128, the default, gives a third of the throughput */

extern char **environ;

/* ---- what is mounted -------------------------------------------------------- */

/* mountinfo writes blank, tab, newline and backslash as \ooo. */
static void undo_escapes(char *text)
{
	char *to = text;

	for (const char *at = text; *at; at++) {
		unsigned byte;

		if (at[0] == '\\' && sscanf(at + 1, "%3o", &byte) == 1) {
			*to++ = (char)byte;
			at += 3;
		} else {
			*to++ = *at;
		}
	}
	*to = '\0';
}

struct mount {
	char *path, *type, *source; /* inside the line */
};

/* One line: "36 35 0:98 / /mnt rw,noatime - fuse.holtfs /volume rw". */
static bool parse_mount(char *line, struct mount *ret)
{
	char *rest = strstr(line, " - ");

	if (!rest)
		return false;
	*rest = '\0';
	rest += 3;
	for (int field = 0; line && field < 4; field++)
		strsep(&line, " ");
	ret->path = strsep(&line, " ");
	ret->type = strsep(&rest, " ");
	ret->source = strsep(&rest, " ");
	if (!ret->path || !ret->source)
		return false;
	undo_escapes(ret->path);
	undo_escapes(ret->source);
	return true;
}

/* The volume whose mount is on top at @path, or the path where @volume is mounted;
 * the other one is NULL.  NULL: no such mount, or no memory to say so. */
static char *find_mount(const char *path, const char *volume)
{
	cleanup_free char *line = NULL;
	char *found = NULL;
	size_t capacity = 0;
	FILE *file = fopen("/proc/self/mountinfo", "re");
	struct mount mount;

	if (!file)
		return NULL;
	while (getline(&line, &capacity, file) > 0) {
		bool is_holtfs;

		if (!parse_mount(line, &mount))
			continue;
		is_holtfs = strcmp(mount.type, "fuse.holtfs") == 0;
		if (path && strcmp(mount.path, path) == 0) {
			free(found);
			found = is_holtfs ? strdup(mount.source) : NULL;
		} else if (volume && is_holtfs && strcmp(mount.source, volume) == 0) {
			free(found);
			found = strdup(mount.path);
		}
	}
	fclose(file);
	return found;
}

char *mountpoint_of_volume(const char *volume)
{
	return find_mount(NULL, volume);
}

/* ---- before the mount ------------------------------------------------------- */

static int report_dead(const char *path)
{
	log_error(
	    "%s: a mount whose daemon has died; remove it with: fusermount3 -u %s",
	    path, path);
	return -ENOTCONN;
}

static int report_resolve(const char *given, int err)
{
	if (err == -ENOTCONN)
		return report_dead(given);
	if (err == -ENOENT)
		log_error("%s: no such file or directory; a mount point must exist",
		    given);
	else
		log_error("%s: cannot be reached as mount point: %s", given,
		    strerror(-err));
	return err;
}

int mountpoint_resolve(const char *given, char **ret)
{
	cleanup_free char *path = realpath(given, NULL);
	struct stat st;

	if (!path || stat(path, &st))
		return report_resolve(given, -errno);
	if (!S_ISDIR(st.st_mode)) {
		log_error("%s: not a directory; a mount point must be one", given);
		return -ENOTDIR;
	}
	*ret = steal_pointer(path);
	return 0;
}

static int check_device(void)
{
	cleanup_fd int fd = open(FUSE_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return 0;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO) {
		log_error(FUSE_DEVICE
		    ": missing; load the kernel module with: modprobe fuse "
		    "(in a container: --device " FUSE_DEVICE ")");
		return -ENODEV;
	}
	log_error(FUSE_DEVICE
	    ": cannot be opened: %s; reading and writing it must be allowed",
	    strerror(errno));
	return -EACCES;
}

static bool has_program(const char *name)
{
	const char *path = getenv("PATH");
	cleanup_free char *list = NULL;
	char *rest;

	if (asprintf(&list, "%s:/usr/local/bin:/usr/bin:/bin", path ? path : "") <
	    0) {
		list = NULL;
		return true;
	}
	rest = list;
	for (char *dir = strsep(&rest, ":"); dir; dir = strsep(&rest, ":")) {
		char file[PATH_MAX];

		if (*dir &&
		    snprintf(file, sizeof(file), "%s/%s", dir, name) <
			(int)sizeof(file) &&
		    access(file, X_OK) == 0)
			return true;
	}
	return false;
}

/* Only an explicit "no" counts: a file we cannot read decides nothing. */
static bool may_allow_other(void)
{
	cleanup_free char *line = NULL;
	size_t capacity = 0;
	FILE *file = fopen(FUSE_CONF, "re");
	bool is_allowed = false;

	if (!file)
		return errno != ENOENT;
	while (!is_allowed && getline(&line, &capacity, file) > 0) {
		char word[32];

		is_allowed = sscanf(line, " %31s", word) == 1 &&
			     strcmp(word, "user_allow_other") == 0;
	}
	fclose(file);
	return is_allowed;
}

static int check_ordinary_user(const char *path, bool has_allow_other)
{
	struct stat st;

	if (!has_program("fusermount3")) {
		log_error("fusermount3: not found; only root can mount without it "
			  "(Debian, Ubuntu: package fuse3)");
		return -ENOENT;
	}
	if (has_allow_other && !may_allow_other()) {
		log_error("-o allow_other: not permitted; root can permit it with "
			  "the line user_allow_other in " FUSE_CONF);
		return -EPERM;
	}
	if (access(path, W_OK) || (stat(path, &st) == 0 && (st.st_mode & S_ISVTX) &&
				      st.st_uid != getuid())) {
		log_error(
		    "%s: not permitted; the mount point must be a directory that "
		    "you own or may write to",
		    path);
		return -EPERM;
	}
	return 0;
}

int mountpoint_check(const char *path, bool has_allow_other)
{
	cleanup_free char *source = find_mount(path, NULL);
	struct statvfs st;
	int err;

	/* The kernel remembers attributes of the dead, but not free space. */
	if (source && statvfs(path, &st) && errno == ENOTCONN)
		return report_dead(path);
	if (source) {
		log_error("%s: already a holtfs mount, of %s; unmount it first", path,
		    source);
		return -EBUSY;
	}
	err = check_device();
	if (!err && geteuid() != 0)
		err = check_ordinary_user(path, has_allow_other);
	return err;
}

/* ---- the standing mount ----------------------------------------------------- */

int mountpoint_probe(const char *path, dev_t *ret)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	*ret = st.st_dev;
	return 0;
}

void mountpoint_raise_readahead(dev_t device)
{
	char path[64];
	char text[16];
	cleanup_fd int fd = -1;
	int len;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
	    major(device), minor(device));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	len = snprintf(text, sizeof(text), "%d\n", READAHEAD_KB);
	if (write(fd, text, (size_t)len) != len)
		log_debug("%s: %s", path, strerror(errno));
}

static int run_fusermount(const char *path)
{
	char *const argv[] = {
	    "fusermount3", "-u", "-q", "-z", "--", (char *)path, NULL};
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;
	int status, err;

	sigemptyset(&none);
	err = posix_spawnattr_init(&attr);
	if (err)
		return -err;
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attr, &none);
	err = posix_spawnp(&pid, argv[0], NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (err)
		return -err;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status ? -EPERM : 0;
}

/* What user space wrote through mappings of open files is only in the page cache. */
static void start_writeback(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		syncfs(fd);
}

void mountpoint_detach(const char *path, dev_t device)
{
	struct stat st;
	int err = 0;

	if (stat(path, &st) || st.st_dev != device)
		return;
	start_writeback(path);
	if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW))
		err = errno == EPERM ? run_fusermount(path) : -errno;
	if (err)
		log_warning("%s: cannot be unmounted: %s", path, strerror(-err));
}
