/*
 * Looking before formatting.
 *
 * A volume may be recognised in four ways, asked in this order: it carries our own
 * superblock (either copy), libblkid knows a file system, RAID member or similar on
 * it, libblkid knows a partition table, or, for a regular file, its first MiB is not
 * all zeros.  The last one catches "mkfs.holtfs notes.txt".  A block device seldom
 * comes zeroed, so there unknown bytes say nothing.
 *
 * A user is found in the mount table (by device number or by name) or among loop
 * devices (by the name of the file behind them).  Both are hints for a good message:
 * the lock taken by device_open() and the kernel's exclusive open of block devices
 * are what really keeps two users apart.
 */
#include "config.h"

#include "mount-helpers/inspect.h"

#include <blkid.h>
#include <dirent.h>
#include <errno.h>
#include <libmount.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "format/format.h"

#define UNKNOWN_DATA_BYTES (1024u * 1024)
#define SIGNATURES_MAX 1000 /* more than any medium carries */

/* ---- users ---------------------------------------------------------------- */

static bool is_mount_of(struct libmnt_fs *fs, const struct stat *st, const char *real)
{
	const char *source = mnt_fs_get_srcpath(fs);

	if (S_ISBLK(st->st_mode) && mnt_fs_get_devno(fs) == st->st_rdev)
		return true;
	return source && strcmp(source, real) == 0;
}

static bool find_mount(const char *real, const struct stat *st, char text[INSPECT_TEXT])
{
	struct libmnt_table *table = mnt_new_table_from_file("/proc/self/mountinfo");
	struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	bool found = false;

	while (table && iter && !found && mnt_table_next_fs(table, iter, &fs) == 0) {
		found = is_mount_of(fs, st, real);
		if (found)
			snprintf(text, INSPECT_TEXT,
			    "is mounted on %s; unmount it first",
			    mnt_fs_get_target(fs));
	}
	mnt_free_iter(iter);
	mnt_unref_table(table);
	return found;
}

/* Is @real the file behind loop device @name? */
static bool is_behind_loop(const char *name, const char *real)
{
	char path[PATH_MAX], line[PATH_MAX] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", name);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	line[strcspn(line, "\n")] = '\0';
	return strcmp(line, real) == 0;
}

static bool find_loop(const char *real, char text[INSPECT_TEXT])
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "loop", 4) != 0)
			continue;
		found = is_behind_loop(entry->d_name, real);
		if (found)
			snprintf(text, INSPECT_TEXT,
			    "is attached to /dev/%.32s; detach it first (losetup -d)",
			    entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

bool inspect_user(const char *path, const struct stat *st, char text[INSPECT_TEXT])
{
	cleanup_free char *real = realpath(path, NULL);

	if (!real)
		return false;
	return find_mount(real, st, text) ||
	       (S_ISREG(st->st_mode) && find_loop(real, text));
}

/* ---- contents ------------------------------------------------------------- */

static bool has_our_magic(int fd, uint64_t offset)
{
	uint8_t bytes[sizeof(superblock_magic)];

	return pread(fd, bytes, sizeof(bytes), (off_t)offset) == (ssize_t)sizeof(bytes) &&
	       memcmp(bytes, superblock_magic, sizeof(bytes)) == 0;
}

static blkid_probe open_probe(int fd)
{
	blkid_probe probe = blkid_new_probe();

	if (!probe)
		return NULL;
	if (blkid_probe_set_device(probe, fd, 0, 0) != 0) {
		blkid_free_probe(probe);
		return NULL;
	}
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe,
	    BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE | BLKID_SUBLKS_MAGIC);
	blkid_probe_enable_partitions(probe, 1);
	blkid_probe_set_partitions_flags(probe, BLKID_PARTS_MAGIC);
	return probe;
}

/* What libblkid found, into @text. */
static void describe_signature(blkid_probe probe, char text[INSPECT_TEXT])
{
	const char *type = NULL, *usage = NULL;

	if (blkid_probe_lookup_value(probe, "TYPE", &type, NULL) == 0) {
		blkid_probe_lookup_value(probe, "USAGE", &usage, NULL);
		snprintf(text, INSPECT_TEXT, "holds %s (%s)",
		    usage && strcmp(usage, "filesystem") == 0 ? "a file system"
							      : "data",
		    type);
	} else if (blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL) == 0) {
		snprintf(text, INSPECT_TEXT, "holds a partition table (%s)", type);
	} else {
		snprintf(text, INSPECT_TEXT, "holds data that libblkid knows");
	}
}

/* 1: @text says what; 0: nothing; or -errno. */
static int find_signature(int fd, char text[INSPECT_TEXT])
{
	blkid_probe probe;
	int found;

	errno = 0;
	probe = open_probe(fd);
	if (!probe)
		return errno ? -errno : -ENOMEM;
	errno = 0;
	found = blkid_do_probe(probe);
	if (found == 0)
		describe_signature(probe, text);
	blkid_free_probe(probe);
	if (found < 0)
		return errno ? -errno : -EIO;
	return found == 0;
}

static int has_unknown_data(int fd)
{
	cleanup_free uint8_t *data = malloc(UNKNOWN_DATA_BYTES);
	ssize_t got;

	if (!data)
		return -ENOMEM;
	got = pread(fd, data, UNKNOWN_DATA_BYTES, 0);
	if (got < 0)
		return -errno;
	for (ssize_t i = 0; i < got; i++)
		if (data[i])
			return 1;
	return 0;
}

int inspect_contents(int fd, const struct stat *st, char text[INSPECT_TEXT])
{
	int found;

	if (has_our_magic(fd, SUPERBLOCK_A_OFFSET) ||
	    has_our_magic(fd, SUPERBLOCK_B_OFFSET)) {
		snprintf(text, INSPECT_TEXT, "holds a holtfs volume");
		return 1;
	}
	found = find_signature(fd, text);
	if (found != 0 || !S_ISREG(st->st_mode))
		return found;
	found = has_unknown_data(fd);
	if (found > 0)
		snprintf(text, INSPECT_TEXT, "holds data");
	return found;
}

int inspect_wipe(int fd)
{
	blkid_probe probe = open_probe(fd);
	int found, err = 0;

	if (!probe)
		return -ENOMEM;
	for (int i = 0; i < SIGNATURES_MAX; i++) {
		found = blkid_do_probe(probe);
		if (found != 0) {
			err = found < 0 ? -EIO : 0;
			break;
		}
		if (blkid_do_wipe(probe, 0) != 0) {
			err = -EIO;
			break;
		}
	}
	blkid_free_probe(probe);
	if (!err && fsync(fd) != 0)
		err = -errno;
	return err;
}
