/*
 * The volume in a regular file or on a block device.
 *
 * Opening: look at what the path is, open it (O_EXCL on a block device opened for
 * writing: the kernel then refuses what is mounted), lock it with flock(2), then
 * measure it.  Both steps that answer "in use" are tried again until the caller's
 * patience ends, because a killed owner holds on until its last I/O has drained.
 *
 * Invariants:
 *  1. The lock lies on the open file description that does the I/O, and no other
 *     descriptor for the volume is ever opened: the lock lives exactly as long as
 *     somebody can still write through it.  flock is also what udev and the disk
 *     tools honour on block devices.
 *  2. device.bytes never exceeds what the file had at open.
 *
 * Direct I/O is asked for at open and proven by a read of the first block; where
 * either is refused (EINVAL) the flag is dropped and the host's page cache used.
 * Everything above stays correct, because flushing is fdatasync(2) in both cases.
 *
 * Flush runs in the calling thread and not through the ring, so that it never
 * queues behind writes that it does not have to cover.
 *
 * Locking: none; fields are constant after open.
 */
#include "config.h"

#include "device/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "base/log.h"
#include "device/device_internal.h"

#define VOLUME_BYTES_MIN (512u * 1024) /* a frame */
#define RETRY_NS 10000000

struct file_device {
	struct device device;
	char *path; /* for messages */
	int fd;
	bool is_block;
	bool is_direct;
	struct uring *uring; /* NULL: pread and pwrite by choice */
};

static struct file_device *file_of(struct device *device)
{
	return (struct file_device *)device;
}

static const char *file_describe(const struct device *device)
{
	static const char *const names[URING_MODE_COUNT][2] = {
	    [URING_MODE_UNSTARTED] = {"io_uring, not started, page cache",
		"io_uring, not started"},
	    [URING_MODE_REGISTERED] = {"io_uring, registered buffers, page cache",
		"io_uring, registered buffers"},
	    [URING_MODE_PARTLY_REGISTERED] = {
		"io_uring, some buffers registered, page cache",
		"io_uring, some buffers registered"},
	    [URING_MODE_PLAIN] = {"io_uring, page cache", "io_uring"},
	    [URING_MODE_SYNC] = {"pread/pwrite, page cache", "pread/pwrite"},
	};
	const struct file_device *file = (const struct file_device *)device;
	enum uring_mode mode = file->uring ? uring_mode(file->uring) : URING_MODE_SYNC;

	return names[mode][file->is_direct];
}

static int file_transfer(struct device *device, struct device_request *request)
{
	return sync_transfer(file_of(device)->fd, request);
}

static void file_submit(struct device *device, struct device_request *requests,
    uint32_t count)
{
	uring_submit(file_of(device)->uring, requests, count);
}

static void file_wait(struct device *device, struct device_batch *batch)
{
	uring_wait(file_of(device)->uring, batch);
}

static void file_poll(struct device *device)
{
	uring_poll(file_of(device)->uring);
}

static void file_register_slab(struct device *device, void *base, uint32_t slot_bytes,
    uint32_t slot_count)
{
	uring_register_slab(file_of(device)->uring, base, slot_bytes, slot_count);
}

static void file_register_slots(struct device *device, uint32_t first, uint32_t count)
{
	uring_register_slots(file_of(device)->uring, first, count);
}

static int file_flush(struct device *device)
{
	int err;

	do {
		err = fdatasync(file_of(device)->fd) < 0 ? -errno : 0;
	} while (err == -EINTR);
	return err;
}

static bool is_missing_call(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -ENOTTY;
}

static int fallocate_range(int fd, int mode, uint64_t offset, uint64_t bytes)
{
	int err;

	do {
		err = fallocate(fd, mode, (off_t)offset, (off_t)bytes) < 0 ? -errno : 0;
	} while (err == -EINTR);
	return err;
}

static int file_allocate(struct device *device, uint64_t offset, uint64_t bytes)
{
	struct file_device *file = file_of(device);
	int err;

	if (file->is_block)
		return 0;
	err = fallocate_range(file->fd, 0, offset, bytes);
	return is_missing_call(err) ? 0 : err;
}

static int file_discard(struct device *device, uint64_t offset, uint64_t bytes)
{
	struct file_device *file = file_of(device);
	uint64_t range[2] = {offset, bytes};
	int err;

	if (file->is_block)
		err = ioctl(file->fd, BLKDISCARD, range) < 0 ? -errno : 0;
	else
		err = fallocate_range(file->fd,
		    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
	return is_missing_call(err) ? -EOPNOTSUPP : err;
}

/* Accepts a half-opened file. */
static void file_destroy(struct file_device *file)
{
	/* The kernel takes a ring apart in its own time and may hold on to the
	 * file and with it the lock.  Without a ring there may be a second holder
	 * of the descriptor, after a fork, who wants to keep the lock. */
	if (file->uring && uring_destroy(file->uring))
		flock(file->fd, LOCK_UN);
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	free(file);
}

static void file_close(struct device *device)
{
	file_destroy(file_of(device));
}

static const struct device_ops uring_ops = {
    .describe = file_describe,
    .transfer = file_transfer,
    .submit = file_submit,
    .wait = file_wait,
    .poll = file_poll,
    .flush = file_flush,
    .allocate = file_allocate,
    .discard = file_discard,
    .register_slab = file_register_slab,
    .register_slots = file_register_slots,
    .close = file_close,
};

static const struct device_ops sync_ops = {
    .describe = file_describe,
    .transfer = file_transfer,
    .flush = file_flush,
    .allocate = file_allocate,
    .discard = file_discard,
    .close = file_close,
};

/* Fills is_block.  Done before open, which could hang on a pipe. */
static int check_kind(struct file_device *file)
{
	struct stat st;

	if (stat(file->path, &st) < 0)
		return -errno;
	file->is_block = S_ISBLK(st.st_mode);
	return S_ISREG(st.st_mode) || file->is_block ? 0 : -EINVAL;
}

/* A file that could be read but not written is a read-only file. */
static int write_refusal(const char *path, int err)
{
	if (err != -EACCES && err != -EPERM)
		return err;
	return faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0 ? -EROFS : err;
}

/* Opens with direct I/O or, where open itself refuses that, without. */
static int open_once(struct file_device *file)
{
	int flags = O_CLOEXEC | O_NOCTTY;

	flags |= file->device.is_read_only ? O_RDONLY : O_RDWR;
	if (file->is_block && !file->device.is_read_only)
		flags |= O_EXCL;
	file->fd = open(file->path, flags | O_DIRECT);
	file->is_direct = file->fd >= 0;
	if (file->fd < 0 && errno == EINVAL)
		file->fd = open(file->path, flags);
	if (file->fd >= 0)
		return 0;
	return file->device.is_read_only ? -errno : write_refusal(file->path, -errno);
}

/* -EBUSY: somebody else has it. */
static int lock_once(struct file_device *file)
{
	int err;

	if (file->fd < 0) {
		err = open_once(file);
		if (err < 0)
			return err;
	}
	if (flock(file->fd, (file->device.is_read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK || errno == EINTR ? -EBUSY : -errno;
}

static int open_locked(struct file_device *file, uint32_t wait_ms)
{
	uint64_t deadline = monotonic_ns() + (uint64_t)wait_ms * 1000000;
	const struct timespec pause = {.tv_nsec = RETRY_NS};
	int err;

	while ((err = lock_once(file)) == -EBUSY && monotonic_ns() < deadline)
		nanosleep(&pause, NULL);
	return err;
}

static int measure(struct file_device *file)
{
	int is_protected = 0;
	uint64_t bytes;
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode) != file->is_block || (!file->is_block && !S_ISREG(st.st_mode)))
		return -EINVAL;
	/* Linux opens a write-protected block device for writing all the same. */
	if (file->is_block && ioctl(file->fd, BLKROGET, &is_protected) < 0)
		return -errno;
	if (is_protected && !file->device.is_read_only)
		return -EROFS;
	bytes = (uint64_t)st.st_size;
	if (file->is_block && ioctl(file->fd, BLKGETSIZE64, &bytes) < 0)
		return -errno;
	if (bytes < VOLUME_BYTES_MIN)
		return -EINVAL;
	file->device.bytes = bytes - bytes % DEVICE_ALIGN;
	return 0;
}

/* Some hosts accept the flag and refuse the I/O. */
static int settle_direct(struct file_device *file)
{
	cleanup_free void *block = aligned_alloc(DEVICE_ALIGN, DEVICE_ALIGN);
	int flags;

	if (!block)
		return -ENOMEM;
	if (file->is_direct && (pread(file->fd, block, DEVICE_ALIGN, 0) >= 0 || errno != EINVAL))
		return 0;
	log_info("%s: the host has no direct I/O here; using its page cache", file->path);
	if (!file->is_direct)
		return 0;
	file->is_direct = false;
	flags = fcntl(file->fd, F_GETFL);
	if (flags < 0 || fcntl(file->fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return -errno;
	return 0;
}

static int choose_io(struct file_device *file, enum device_io io)
{
	if (io == DEVICE_IO_SYNC)
		return 0;
	file->uring = uring_create(file->fd, file->path);
	if (!file->uring)
		return -ENOMEM;
	file->device.ops = &uring_ops;
	return io == DEVICE_IO_URING ? uring_probe() : 0;
}

static int open_file(struct file_device *file, const struct device_options *options)
{
	int err = check_kind(file);

	if (err == 0)
		err = open_locked(file, options->lock_wait_ms);
	if (err == 0)
		err = measure(file);
	if (err == 0)
		err = settle_direct(file);
	if (err == 0)
		err = choose_io(file, options->io);
	return err;
}

int device_open(const char *path, const struct device_options *options, struct device **ret)
{
	struct file_device *file = calloc(1, sizeof(*file));
	int err;

	if (!file)
		return -ENOMEM;
	device_init(&file->device, &sync_ops, 0);
	file->device.is_read_only = options->is_read_only;
	file->fd = -1;
	file->path = strdup(path);
	err = file->path ? open_file(file, options) : -ENOMEM;
	if (err < 0) {
		file_destroy(file);
		return err;
	}
	*ret = &file->device;
	return 0;
}
