/*
 * Opening and closing: from a path, options and flags to a store over a device.
 *
 * A store that does not exist yet is a file without bytes, or a device that begins with
 * zeros: store_format() writes the superblocks last, so a creation that was cut short
 * leaves just that, and the next open with HOLT_CREATE begins it again.  Two processes
 * that create the same file meet at its lock: one sizes it, one formats it, the other
 * finds it in use.
 *
 * Crash: a new file's name is made durable before the store in it is.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"

#define KNOWN_FLAGS (HOLT_CREATE | HOLT_EXCLUSIVE | HOLT_READ_ONLY | HOLT_NO_THREADS | HOLT_NO_MERGE)
#define VOLUME_DEFAULT (64ull << 30)
#define DIRTY_PERCENT_MAX 75

/* A process that was killed holds the lock until its last write has drained. */
#define LOCK_WAIT_MS 3000

const char *holt_version(void)
{
	return PACKAGE_VERSION;
}

/* ---- options --------------------------------------------------------------------- */

/* The structure may grow in later versions; what the caller does not know is 0. */
static int read_options(const struct holt_options *from, struct holt_options *ret)
{
	const uint8_t *tail = (const uint8_t *)from + sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	if (!from)
		return 0;
	if (from->struct_bytes < offsetof(struct holt_options, io))
		return -EINVAL;
	for (size_t i = 0; i + sizeof(*ret) < from->struct_bytes; i++)
		if (tail[i])
			return -EINVAL;
	memcpy(ret, from, min_of(from->struct_bytes, sizeof(*ret)));
	return 0;
}

static int check_options(const struct holt_options *options)
{
	bool may_write = !(options->flags & HOLT_READ_ONLY);

	if (options->flags & ~KNOWN_FLAGS || options->checkpoint_dirty_percent > DIRTY_PERCENT_MAX)
		return -EINVAL;
	if ((options->flags & HOLT_EXCLUSIVE) && !(options->flags & HOLT_CREATE))
		return -EINVAL;
	if ((options->flags & HOLT_CREATE) && !may_write)
		return -EINVAL;
	if ((unsigned)options->durability > HOLT_SYNC || (unsigned)options->io > HOLT_IO_SYNC)
		return -EINVAL;
	return options->label && strlen(options->label) >= LABEL_BYTES ? -EINVAL : 0;
}

static int load_options(const struct holt_options *from, struct holt_options *ret)
{
	int err = read_options(from, ret);

	return err ? err : check_options(ret);
}

static struct store_options store_options_of(const struct holt_options *options)
{
	return (struct store_options){
	    .cache_bytes = options->cache_bytes,
	    .is_read_only = options->flags & HOLT_READ_ONLY,
	    .has_shared_ring = options->durability != HOLT_LOSSY,
	    .no_threads = options->flags & HOLT_NO_THREADS,
	    .no_merge = options->flags & HOLT_NO_MERGE,
	    .checkpoint_dirty_percent = options->checkpoint_dirty_percent,
	    .checkpoint_idle_ms = options->checkpoint_idle_ms,
	};
}

static enum device_io device_io_of(enum holt_io io)
{
	return io == HOLT_IO_SYNC ? DEVICE_IO_SYNC : DEVICE_IO_AUTO;
}

/* ---- a store over a device --------------------------------------------------------- */

static int make_uuid(uint8_t uuid[UUID_BYTES])
{
	if (getrandom(uuid, UUID_BYTES, 0) != UUID_BYTES)
		return -EIO;
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	return 0;
}

static int format_device(struct device *device, const struct holt_options *options)
{
	struct store_format_options format = {.journal_bytes = options->journal_bytes};
	int err = make_uuid(format.uuid);

	if (options->label)
		strcpy(format.label, options->label); /* length checked */
	return err ? err : store_format(device, &format);
}

static int begins_with_zeros(struct device *device, bool *ret)
{
	cleanup_free uint8_t *block = aligned_alloc(DEVICE_ALIGN, DEVICE_ALIGN);
	int err = block ? device_read(device, block, DEVICE_ALIGN, 0) : -ENOMEM;

	if (!err)
		*ret = block[0] == 0 && memcmp(block, block + 1, DEVICE_ALIGN - 1) == 0;
	return err;
}

static int create_store(struct device *device, const struct holt_options *options)
{
	bool is_empty;
	int err;

	if (!(options->flags & HOLT_CREATE))
		return 0;
	err = begins_with_zeros(device, &is_empty);
	if (err)
		return err;
	if (!is_empty)
		return options->flags & HOLT_EXCLUSIVE ? -EEXIST : 0;
	return format_device(device, options);
}

static struct holt *create_holt(void)
{
	struct holt *holt = aligned_alloc(_Alignof(struct holt), sizeof(*holt));

	if (holt)
		memset(holt, 0, sizeof(*holt));
	return holt;
}

/* The device stays the caller's on failure. */
static int open_store(struct device *device, const struct holt_options *options, struct holt **ret)
{
	struct store_options store_options = store_options_of(options);
	struct holt *holt = create_holt();
	int err;

	if (!holt)
		return -ENOMEM;
	err = create_store(device, options);
	if (!err)
		err = store_open(device, &store_options, &holt->store);
	holt->level = JOURNAL_PROCESS;
	if (!err && options->durability)
		err = holt_level(holt, options->durability, &holt->level);
	if (err) {
		free(holt);
		return err;
	}
	*ret = holt;
	return 0;
}

/* ---- files -------------------------------------------------------------------------- */

static int sync_directory_of(const char *path)
{
	cleanup_free char *copy = strdup(path);
	cleanup_fd int fd = -1;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* An empty file gets its size, unless somebody else is about to do that. */
static int size_file(int fd, const char *path, uint64_t bytes)
{
	struct stat st;
	int err;

	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > 0)
		return 0;
	/* The name first: whoever finds a file with a size can rely on it. */
	err = sync_directory_of(path);
	return !err && ftruncate(fd, (off_t)bytes) < 0 ? -errno : err;
}

static int create_file(const char *path, const struct holt_options *options, bool *ret_is_new)
{
	uint64_t bytes = options->volume_bytes ? options->volume_bytes : VOLUME_DEFAULT;
	int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	cleanup_fd int fd = -1;
	int err;

	if (bytes < VOLUME_BYTES_MIN || bytes > INT64_MAX)
		return -EINVAL;
	fd = open(path, flags | O_EXCL, 0666);
	*ret_is_new = fd >= 0;
	if (fd < 0 && errno == EEXIST && !(options->flags & HOLT_EXCLUSIVE))
		fd = open(path, flags, 0666);
	if (fd < 0)
		return -errno;
	err = size_file(fd, path, bytes);
	if (err && *ret_is_new)
		unlink(path);
	return err;
}

static int open_path(const char *path, const struct holt_options *options, struct holt **ret)
{
	struct device_options device_options = {
	    .is_read_only = options->flags & HOLT_READ_ONLY,
	    .io = device_io_of(options->io),
	    .lock_wait_ms = LOCK_WAIT_MS,
	};
	struct device *device;
	int err = device_open(path, &device_options, &device);

	/* Neither file nor block device, or too small. */
	if (err == -EINVAL)
		return -EMEDIUMTYPE;
	if (err)
		return err;
	err = open_store(device, options, ret);
	if (err)
		device_close(device);
	return err;
}

int holt_open(const char *path, const struct holt_options *options, struct holt **ret)
{
	struct holt_options known;
	bool is_new = false;
	int err = load_options(options, &known);

	if (!err && (!path || !ret))
		err = -EINVAL;
	if (!err && (known.flags & HOLT_CREATE))
		err = create_file(path, &known, &is_new);
	if (err)
		return err;
	/* Whoever made the file made it for this store alone. */
	if (is_new)
		known.flags &= ~HOLT_EXCLUSIVE;
	err = open_path(path, &known, ret);
	if (err && is_new && err != -EBUSY)
		unlink(path);
	return err;
}

/* ---- devices of the caller ----------------------------------------------------------- */

int holt_open_device(const struct holt_device *device, const struct holt_options *options,
    struct holt **ret)
{
	struct device_functions functions;
	struct holt_options known;
	struct device *custom;
	int err = load_options(options, &known);

	if (err)
		return err;
	if (!ret || !device || !device->read || !device->write || !device->flush ||
	    device->bytes % DEVICE_ALIGN || device->bytes < VOLUME_BYTES_MIN)
		return -EINVAL;
	functions = (struct device_functions){
	    .ctx = device->ctx,
	    .bytes = device->bytes,
	    .is_read_only = known.flags & HOLT_READ_ONLY,
	    .read = device->read,
	    .write = device->write,
	    .flush = device->flush,
	    .discard = device->discard,
	};
	err = device_open_functions(&functions, &custom);
	if (err)
		return err;
	err = open_store(custom, &known, ret);
	if (err) {
		device_close(custom);
		return err;
	}
	(*ret)->close_device = device->close;
	(*ret)->close_ctx = device->ctx;
	return 0;
}

/* ---- memory -------------------------------------------------------------------------- */

int holt_open_memory(const struct holt_options *options, struct holt **ret)
{
	struct store_options store_options;
	struct holt_options known;
	struct holt *holt;
	int err = load_options(options, &known);

	if (!err && (!ret || (known.flags & HOLT_READ_ONLY)))
		err = -EINVAL;
	if (err)
		return err;
	holt = create_holt();
	if (!holt)
		return -ENOMEM;
	store_options = store_options_of(&known);
	err = store_open_memory(&store_options, &holt->store);
	if (err) {
		free(holt);
		return err;
	}
	/* There is nothing that a change could survive in. */
	holt->level = JOURNAL_LOSSY;
	*ret = holt;
	return 0;
}

/* ---- closing -------------------------------------------------------------------------- */

int holt_close(struct holt *holt)
{
	int err;

	if (!holt)
		return 0;
	for (unsigned i = 0; i < HOLT_LANES; i++) {
		holt_cursor_destroy(atomic_load(&holt->lanes[i].cursor));
		store_batch_destroy(atomic_load(&holt->lanes[i].batch));
	}
	err = store_close(holt->store);
	if (holt->close_device)
		holt->close_device(holt->close_ctx);
	free(holt);
	return err;
}

int holt_error(struct holt *holt)
{
	return holt ? store_error(holt->store) : -EINVAL;
}

/* ---- messages --------------------------------------------------------------------------- */

static void (*log_function)(void *ctx, int level, const char *message);

static void pass_line(void *ctx, enum log_level level, const char *line)
{
	log_function(ctx, (int)level, line);
}

void holt_set_log(void (*log)(void *ctx, int level, const char *message), void *ctx)
{
	log_function = log;
	log_set_sink(log ? pass_line : NULL, ctx);
}
