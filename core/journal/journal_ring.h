/*
 * The memory that holds the end of the log: a power of two of bytes indexed by LSN
 * modulo its size, mapped twice in a row, so that any run of up to `size` bytes is
 * contiguous wherever it begins:
 *
 *    file     | header 64 KiB |  0 ........ size  |
 *    memory                   |  0 ........ size  |  0 ........ size  |   bytes
 *                                            [ a record that wraps ]
 *
 * It lives either in memory nobody else can name (memfd), or in /dev/shm under a
 * name made of the volume's UUID.  There it outlives the process: the next open of
 * the same boot finds in it what the dead process had appended and not written.
 *
 *    written              end
 *     |  in the ring only    |
 *
 * A write moves `written` when the device has completed, and a byte is overwritten only
 * once `written` is past it.  So what was appended behind `written` is there whenever
 * the process dies, up to the first record that was still being copied.  Where that is
 * nothing says but the records themselves: they verify or they do not.
 */
#ifndef HOLTFS_JOURNAL_JOURNAL_RING_H
#define HOLTFS_JOURNAL_JOURNAL_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/format.h"

#define RING_BYTES_MIN (64u * 1024) /* the largest page size there is */
#define RING_BYTES_MAX (1u << 30)
#define RING_HEADER_BYTES RING_BYTES_MIN
#define BOOT_ID_BYTES 40

/* This machine's byte order: the memory does not outlive a boot. */
struct journal_ring_header {
	uint8_t magic[8]; /* stored last when the ring is made */
	uint32_t version;
	uint32_t bytes; /* of the ring */
	char boot_id[BOOT_ID_BYTES];
	uint8_t uuid[UUID_BYTES];
	uint64_t open_id;
	_Atomic uint64_t written;
};

struct journal_ring {
	struct journal_ring_header *header; /* NULL: no ring */
	uint8_t *bytes;
	uint32_t size;
	bool is_shared;
};

/* A fresh ring whose LSN is @start. */
int journal_ring_create_private(uint32_t size, uint64_t start, struct journal_ring *ret);

/*
 * The same in /dev/shm, in place of what an earlier open of the volume left there.
 * Its memory is allocated at once: a page that cannot be had later would end the
 * process with SIGBUS.
 */
int journal_ring_create_shared(const uint8_t uuid[UUID_BYTES], uint64_t open_id,
    uint32_t size, uint64_t start, struct journal_ring *ret);

/*
 * Maps, for reading, the ring that a dead process left.  -ENOENT: none, or of
 * another boot, volume or open, or not one to be trusted (logged).
 */
int journal_ring_attach(const uint8_t uuid[UUID_BYTES], uint64_t open_id,
    struct journal_ring *ret);

/* Unmaps.  A ring in shared memory stays there for the next open. */
void journal_ring_release(struct journal_ring *ring);

/* Unlinks the volume's shared ring, if there is one; -errno if it cannot. */
int journal_ring_remove(const uint8_t uuid[UUID_BYTES]);

/* Room for `size` contiguous bytes from @lsn on. */
static inline uint8_t *journal_ring_at(const struct journal_ring *ring, uint64_t lsn)
{
	return ring->bytes + (lsn & (ring->size - 1));
}

#endif
