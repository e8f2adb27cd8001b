/*
 * Getting hold of a volume: refuse what must not be touched, make the file, set its
 * size, open and lock it.
 *
 * The order in volume_prepare() for something that exists:
 *
 *   1. look (size, users, contents); nothing has been changed when this refuses
 *   2. open it as a device, which locks it or says -EBUSY
 *   3. under that lock: set the file's size; erase foreign signatures and zero the
 *      first frame, so that a format which is cut short leaves something that
 *      nobody takes for a volume
 *
 * A device knows its size from its opening, so after a change of size it is closed
 * and opened again.  Who slips in between finds a file without a superblock of the
 * right size, or makes the second opening fail; neither loses anything that was not
 * going to be overwritten.
 */
#include "config.h"

#include "mount-helpers/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "device/device.h"
#include "format/format.h"
#include "mount-helpers/cli.h"
#include "mount-helpers/inspect.h"

/* A daemon lives on after umount(8) until all is written; a killed one keeps the
 * lock until its last I/O has drained. */
#define LOCK_WAIT_MS 10000

const char *volume_explain(int err)
{
	switch (-err) {
	case EBUSY:
		return "in use: mounted, or open in another program";
	case EMEDIUMTYPE:
		return "not a holtfs volume";
	case EPROTONOSUPPORT:
		return "made by another version of holtfs";
	case EUCLEAN:
		return "damaged; restore it from a backup";
	case EROFS:
		return "write protected";
	case EINVAL:
		return "neither a file nor a block device, or too small for a volume";
	case ENOSPC:
		return "no space left on the file system that holds it";
	case EFBIG:
		return "larger than the file system that holds it allows";
	default:
		return strerror(-err);
	}
}

static int refuse(const struct volume *volume, int err)
{
	char text[INSPECT_TEXT];
	struct stat st;

	if (err == -EBUSY && stat(volume->path, &st) == 0 &&
	    inspect_user(volume->path, &st, text))
		cli_error("%s %s", volume->path, text);
	else
		cli_error("%s: %s", volume->path, volume_explain(err));
	return err;
}

/* Opens and locks; a user who is known not to go away is not waited for. */
static int open_locked(const struct volume *volume, bool is_read_only, struct device **ret)
{
	struct device_options options = {.is_read_only = is_read_only};
	char text[INSPECT_TEXT];
	struct stat st;
	int err;

	if (stat(volume->path, &st) != 0 || !inspect_user(volume->path, &st, text))
		options.lock_wait_ms = LOCK_WAIT_MS;
	err = device_open(volume->path, &options, ret);
	return err ? refuse(volume, err) : 0;
}

/* ---- size ------------------------------------------------------------------ */

static int check_size(const char *path, uint64_t bytes)
{
	char have[CLI_SIZE_TEXT], limit[CLI_SIZE_TEXT];

	cli_format_size(bytes, have);
	if (bytes < VOLUME_BYTES_MIN) {
		cli_format_size(VOLUME_BYTES_MIN, limit);
		cli_error("%s: %s is too small; a volume has at least %s", path,
		    have, limit);
		return -EINVAL;
	}
	if (bytes > VOLUME_BYTES_MAX) {
		cli_format_size(VOLUME_BYTES_MAX, limit);
		cli_error("%s: %s is too large; a volume has at most %s", path,
		    have, limit);
		return -EFBIG;
	}
	return 0;
}

static int find_size(int fd, const struct stat *st, uint64_t *ret_bytes)
{
	*ret_bytes = (uint64_t)st->st_size;
	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, ret_bytes) != 0)
		return -errno;
	return 0;
}

/* Decides on the size the volume shall have, from what it is and what was asked. */
static int choose_size(struct volume *volume, uint64_t asked)
{
	if (volume->is_block_device && asked && asked != volume->bytes) {
		cli_error("%s: a block device is formatted whole; leave out -s",
		    volume->path);
		return -EINVAL;
	}
	if (!asked && volume->bytes == 0) {
		cli_error("%s: the file is empty; say how large it shall be (-s SIZE)",
		    volume->path);
		return -EINVAL;
	}
	return asked ? 0 : check_size(volume->path, volume->bytes);
}

/* ---- what is there ----------------------------------------------------------- */

static int check_contents(const struct volume *volume, int fd, const struct stat *st)
{
	char text[INSPECT_TEXT];
	int found;

	if (inspect_user(volume->path, st, text)) {
		cli_error("%s %s", volume->path, text);
		return -EBUSY;
	}
	found = inspect_contents(fd, st, text);
	if (found < 0)
		return refuse(volume, found);
	if (found) {
		cli_error("%s %s; -f overwrites it", volume->path, text);
		return -EEXIST;
	}
	return 0;
}

/* Fills in @volume; changes nothing on disk. */
static int look_at_existing(struct volume *volume, const struct stat *st,
    uint64_t asked, bool is_forced)
{
	cleanup_fd int fd = -1;
	int err;

	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode)) {
		cli_error("%s: neither a regular file nor a block device", volume->path);
		return -EINVAL;
	}
	volume->is_block_device = S_ISBLK(st->st_mode);
	fd = open(volume->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return refuse(volume, -errno);
	err = find_size(fd, st, &volume->bytes);
	if (err)
		return refuse(volume, err);
	if (!is_forced) {
		err = check_contents(volume, fd, st);
		if (err)
			return err;
	}
	return choose_size(volume, asked);
}

/* ---- making it ready ----------------------------------------------------------- */

static int create_file(struct volume *volume, uint64_t bytes)
{
	cleanup_fd int fd = -1;

	if (!bytes) {
		cli_error("%s: no such file; to create it say how large (-s SIZE)",
		    volume->path);
		return -ENOENT;
	}
	/* What lies in a volume belongs to many; the volume to who made it. */
	fd = open(volume->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse(volume, -errno);
	volume->is_new = true;
	if (ftruncate(fd, (off_t)bytes) != 0)
		return refuse(volume, -errno);
	volume->bytes = bytes;
	return 0;
}

/* Only with the volume's lock held, or for a file too small to be a volume. */
static int set_file_size(struct volume *volume, uint64_t bytes)
{
	if (truncate(volume->path, (off_t)bytes) != 0)
		return refuse(volume, -errno);
	volume->bytes = bytes;
	return 0;
}

static int resize(struct volume *volume, uint64_t bytes)
{
	struct device *device;
	int err;

	if (volume->bytes < FRAME_BYTES)
		return set_file_size(volume, bytes);
	err = open_locked(volume, false, &device);
	if (err)
		return err;
	err = set_file_size(volume, bytes);
	device_close(device);
	return err;
}

/* Leaves nothing that blkid, mount or we ourselves would take for a file system. */
static int erase_signatures(const struct volume *volume, struct device *device)
{
	cleanup_free void *zeros = aligned_alloc(DEVICE_ALIGN, FRAME_BYTES);
	cleanup_fd int fd = open(volume->path, O_RDWR | O_CLOEXEC);
	int err;

	if (!zeros)
		return -ENOMEM;
	if (fd < 0)
		return -errno;
	err = inspect_wipe(fd);
	if (err)
		return err;
	memset(zeros, 0, FRAME_BYTES);
	err = device_write(device, zeros, FRAME_BYTES, 0);
	return err ? err : device_flush(device);
}

static int open_existing(struct volume *volume, uint64_t asked, struct device **ret)
{
	struct device *device;
	int err;

	if (asked && asked != volume->bytes) {
		err = resize(volume, asked);
		if (err)
			return err;
	}
	err = open_locked(volume, false, &device);
	if (err)
		return err;
	err = erase_signatures(volume, device);
	if (err) {
		device_close(device);
		return refuse(volume, err);
	}
	*ret = device;
	return 0;
}

int volume_prepare(const char *path, uint64_t bytes, bool is_forced,
    struct volume *ret_volume, struct device **ret_device)
{
	struct volume volume = {.path = path};
	struct stat st;
	int err = bytes ? check_size(path, bytes) : 0;

	if (err)
		return err;
	bytes = round_down(bytes, BLOCK_BYTES);
	if (stat(path, &st) == 0) {
		err = look_at_existing(&volume, &st, bytes, is_forced);
		if (!err)
			err = open_existing(&volume, bytes, ret_device);
	} else if (errno == ENOENT) {
		err = create_file(&volume, bytes);
		if (!err)
			err = open_locked(&volume, false, ret_device);
	} else {
		err = refuse(&volume, -errno);
	}
	if (err)
		volume_discard(&volume);
	else
		*ret_volume = volume;
	return err;
}

void volume_discard(const struct volume *volume)
{
	if (volume->is_new && unlink(volume->path) != 0 && errno != ENOENT)
		cli_error("%s: left behind: %s", volume->path, strerror(errno));
}

int volume_sync_name(const struct volume *volume)
{
	cleanup_free char *copy = strdup(volume->path);
	cleanup_fd int fd = -1;

	if (!volume->is_new)
		return 0;
	if (!copy)
		return refuse(volume, -ENOMEM);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		return refuse(volume, -errno);
	return 0;
}

int volume_open_for_check(const char *path, struct device **ret_device)
{
	struct volume volume = {.path = path};

	return open_locked(&volume, true, ret_device);
}
