/*
 * The ring's memory: making it, finding it again, refusing what is not ours.
 *
 * /dev/shm is a directory where everybody may create files, and the ring's name
 * can be guessed.  What is found there is therefore used only if it is a regular
 * file with one name, belongs to this user and lets nobody else in; it is never
 * opened through a symbolic link; and a ring to write to is always a new file,
 * made with O_EXCL after the old one's name is gone.  Even then its content is
 * bytes from outside: lengths are bounded here, records are verified by the reader.
 *
 * The file is made, sized and filled in before the magic is stored.  A process
 * that dies in between leaves a file without a magic, which is no ring; it had
 * appended nothing.
 */
#include "config.h"

#include "journal/journal_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define RING_VERSION 2u
#define RING_PATH_BYTES 64

static const uint8_t ring_magic[8] = {'h', 'o', 'l', 't', 'r', 'i', 'n', 'g'};

static void ring_path(const uint8_t uuid[UUID_BYTES], char ret[RING_PATH_BYTES])
{
	int at = snprintf(ret, RING_PATH_BYTES, "/dev/shm/holtfs-");

	for (int i = 0; i < UUID_BYTES; i++)
		at += snprintf(ret + at, RING_PATH_BYTES - (size_t)at, "%02x", uuid[i]);
}

static int read_boot_id(char ret[BOOT_ID_BYTES])
{
	cleanup_fd int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t bytes;

	if (fd < 0)
		return -errno;
	memset(ret, 0, BOOT_ID_BYTES);
	bytes = read(fd, ret, BOOT_ID_BYTES - 1);
	if (bytes < 0)
		return -errno;
	return bytes < 32 ? -EIO : 0;
}

/* Maps header and bytes, the latter twice in a row. */
static int map_ring(int fd, uint32_t size, int protection, struct journal_ring *ret)
{
	struct journal_ring ring = {.size = size};
	void *header, *at;

	header = mmap(NULL, RING_HEADER_BYTES, protection, MAP_SHARED, fd, 0);
	if (header == MAP_FAILED)
		return -errno;
	ring.header = header;
	at = mmap(NULL, 2ul * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED) {
		int err = -errno;

		munmap(header, RING_HEADER_BYTES);
		return err;
	}
	ring.bytes = at;
	for (int i = 0; i < 2; i++) {
		at = mmap(ring.bytes + (size_t)i * size, size, protection,
		    MAP_SHARED | MAP_FIXED, fd, RING_HEADER_BYTES);
		if (at == MAP_FAILED) {
			int err = -errno;

			journal_ring_release(&ring);
			return err;
		}
	}
	*ret = ring;
	return 0;
}

static void fill_header(struct journal_ring_header *header, uint32_t size, uint64_t start)
{
	header->version = RING_VERSION;
	header->bytes = size;
	atomic_store_explicit(&header->written, start, memory_order_relaxed);
}

int journal_ring_create_private(uint32_t size, uint64_t start, struct journal_ring *ret)
{
	cleanup_fd int fd = memfd_create("holtfs-journal", MFD_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, RING_HEADER_BYTES + (off_t)size) < 0)
		return -errno;
	err = map_ring(fd, size, PROT_READ | PROT_WRITE, ret);
	if (err)
		return err;
	fill_header(ret->header, size, start);
	return 0;
}

/* A new file of its full size, with all its memory. */
static int create_file(const char *path, uint32_t size, int *ret_fd)
{
	cleanup_fd int fd = open(path,
	    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int err;

	if (fd < 0)
		return -errno;
	do {
		err = posix_fallocate(fd, 0, RING_HEADER_BYTES + (off_t)size);
	} while (err == EINTR);
	if (err) {
		unlink(path);
		return -err;
	}
	*ret_fd = steal_fd(&fd);
	return 0;
}

int journal_ring_create_shared(const uint8_t uuid[UUID_BYTES], uint64_t open_id,
    uint32_t size, uint64_t start, struct journal_ring *ret)
{
	char boot_id[BOOT_ID_BYTES], path[RING_PATH_BYTES];
	cleanup_fd int fd = -1;
	int err = read_boot_id(boot_id);

	if (err)
		return err;
	err = journal_ring_remove(uuid);
	if (err)
		return err;
	ring_path(uuid, path);
	err = create_file(path, size, &fd);
	if (err)
		return err;
	err = map_ring(fd, size, PROT_READ | PROT_WRITE, ret);
	if (err) {
		unlink(path);
		return err;
	}
	fill_header(ret->header, size, start);
	memcpy(ret->header->boot_id, boot_id, BOOT_ID_BYTES);
	memcpy(ret->header->uuid, uuid, UUID_BYTES);
	ret->header->open_id = open_id;
	/* The magic last, also for a process that dies right here. */
	atomic_thread_fence(memory_order_release);
	memcpy(ret->header->magic, ring_magic, sizeof(ring_magic));
	ret->is_shared = true;
	return 0;
}

/* A file in a directory open to all: is it really ours? */
static bool may_be_trusted(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
	       (st->st_mode & 077) == 0 && st->st_nlink == 1;
}

/* The ring's size as the file has it; 0: not the size of a ring. */
static uint32_t size_of_file(const struct stat *st)
{
	off_t bytes = st->st_size - RING_HEADER_BYTES;

	if (bytes < RING_BYTES_MIN || bytes > RING_BYTES_MAX || (bytes & (bytes - 1)))
		return 0;
	return (uint32_t)bytes;
}

static bool header_matches(const struct journal_ring *ring,
    const uint8_t uuid[UUID_BYTES], uint64_t open_id)
{
	const struct journal_ring_header *header = ring->header;
	uint64_t written = atomic_load_explicit(&header->written, memory_order_acquire);
	char boot_id[BOOT_ID_BYTES];

	if (memcmp(header->magic, ring_magic, sizeof(ring_magic)) != 0 ||
	    header->version != RING_VERSION || header->bytes != ring->size)
		return false;
	if (read_boot_id(boot_id) != 0 ||
	    memcmp(header->boot_id, boot_id, BOOT_ID_BYTES) != 0)
		return false;
	if (memcmp(header->uuid, uuid, UUID_BYTES) != 0 || header->open_id != open_id)
		return false;
	return is_aligned(written, BLOCK_BYTES);
}

int journal_ring_attach(const uint8_t uuid[UUID_BYTES], uint64_t open_id,
    struct journal_ring *ret)
{
	char path[RING_PATH_BYTES];
	struct stat st;
	uint32_t size;
	int err;

	ring_path(uuid, path);
	cleanup_fd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0 || !may_be_trusted(&st)) {
		log_warning("journal: %s is not this user's own file, ignored", path);
		return -ENOENT;
	}
	size = size_of_file(&st);
	if (!size)
		return -ENOENT;
	err = map_ring(fd, size, PROT_READ, ret);
	if (err)
		return err;
	if (!header_matches(ret, uuid, open_id)) {
		journal_ring_release(ret);
		return -ENOENT;
	}
	ret->is_shared = true;
	return 0;
}

void journal_ring_release(struct journal_ring *ring)
{
	if (!ring->header)
		return;
	munmap(ring->header, RING_HEADER_BYTES);
	munmap(ring->bytes, 2ul * ring->size);
	*ring = (struct journal_ring){0};
}

int journal_ring_remove(const uint8_t uuid[UUID_BYTES])
{
	char path[RING_PATH_BYTES];

	ring_path(uuid, path);
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}
