/*
 * The volume as a device: reads, writes and flushes of whole blocks.
 *
 * Back ends behind one interface: `uring` (io_uring, with registered file and
 * buffers where the kernel allows), `sync` (pread/pwrite), `memory`, functions of the
 * caller, an overlay that keeps what is written elsewhere, and for tests `recording`
 * (every write and flush kept, to cut the power at any of them) and `faulty` (fails the
 * Nth operation); see device_test.h for the last two.
 *
 * A *request* is one read or write.  A *batch* counts requests under way; many
 * requests of one batch run at once, in any order.  Between submit and the end of
 * the wait, request and data belong to the device.
 *
 * Threads: every function may be called from any thread at any time between open
 * and close; a batch is waited for by one thread.  A flush covers all writes whose
 * completion was seen before it began.
 */
#ifndef HOLTFS_DEVICE_DEVICE_H
#define HOLTFS_DEVICE_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_ALIGN 4096u	  /* of offsets, lengths and memory */
#define DEVICE_NO_SLOT UINT32_MAX /* request data is not in the slab */

struct device;

enum device_io {
	DEVICE_IO_AUTO,	 /* uring, else sync */
	DEVICE_IO_URING, /* fail where io_uring is not to be had */
	DEVICE_IO_SYNC,
};

struct device_options {
	bool is_read_only;
	enum device_io io;
	/* How long to wait for another holder of the volume's lock, in ms: a killed
	 * owner keeps it until its last I/O has drained. */
	uint32_t lock_wait_ms;
};

/*
 * Opens and locks a regular file or block device: exclusively for writing, shared
 * for reading.  The lock lies on the descriptor used for I/O and goes with it.
 * O_DIRECT where the host allows it.  Rings are made at the first submit or
 * device_register_slab(), so a program may fork between open and first use.
 * -EBUSY: in use (also by a kernel mount, for block devices).  -EROFS: a read-only
 * file opened for writing.  -EINVAL: neither file nor block device, or smaller
 * than a frame.
 */
int device_open(const char *path, const struct device_options *options, struct device **ret);

/* A device of @bytes zeroed bytes in memory; gone at close. */
int device_open_memory(uint64_t bytes, struct device **ret);

/*
 * A device made of the caller's functions.  Each returns 0 or -errno, may be called from
 * several threads at once, and has ended when it returns; offsets, lengths and memory
 * are aligned to DEVICE_ALIGN.  Closing the device calls nothing.
 */
struct device_functions {
	void *ctx;
	uint64_t bytes; /* whole blocks */
	bool is_read_only;
	int (*read)(void *ctx, uint64_t offset, void *memory, size_t bytes);
	int (*write)(void *ctx, uint64_t offset, const void *memory, size_t bytes);
	int (*flush)(void *ctx);
	int (*discard)(void *ctx, uint64_t offset, uint64_t bytes); /* NULL: it cannot */
};

int device_open_functions(const struct device_functions *functions, struct device **ret);

/*
 * A writable device over @inner that leaves @inner as it is: what is written goes to
 * an unlinked temporary file and is gone at close.  Owns @inner until detached;
 * after device_overlay_detach() it can only be closed.
 */
int device_open_overlay(struct device *inner, struct device **ret);
void device_overlay_detach(struct device *device);

void device_close(struct device *device); /* NULL allowed */

uint64_t device_bytes(const struct device *device); /* whole blocks */
bool device_is_read_only(const struct device *device);

/* "io_uring, registered buffers", "io_uring", "pread/pwrite", "memory", ... */
const char *device_describe(const struct device *device);

/*
 * Announces the memory from which most requests come: @slot_count slots of
 * @slot_bytes from @base.  Costs nothing yet.  Once a device.  Failure of the
 * kernel to register is no error: requests fall back to plain buffers, and the
 * reason is logged once.
 */
void device_register_slab(struct device *device, void *base, uint32_t slot_bytes, uint32_t slot_count);

/*
 * Registers slots [first, first + count) whose memory is faulted in.  Until then
 * requests that name them use plain I/O.
 */
void device_register_slots(struct device *device, uint32_t first, uint32_t count);

enum device_op { DEVICE_READ, DEVICE_WRITE };

struct device_batch {
	_Atomic uint32_t pending; /* futex word */
	_Atomic int error;	  /* first failure, 0 or -errno */
};

struct device_request {
	enum device_op op;
	uint32_t slot;	 /* slab slot that holds data, or DEVICE_NO_SLOT */
	void *data;	 /* DEVICE_ALIGN aligned */
	uint32_t bytes;	 /* whole blocks, not 0 */
	uint64_t offset; /* on the volume, block aligned */
	int result;	 /* after the wait: 0 or -errno; short I/O is -EIO */

	/* The device's own, between submit and wait. */
	struct device_batch *batch;
	struct device_request *next;
	uint32_t done_bytes;
};

void device_batch_init(struct device_batch *batch);

/*
 * Starts @count requests.  Does not fail: errors come as results.  May block when
 * the queue is full, never on the requests themselves for the uring back end.
 */
void device_submit(struct device *device, struct device_batch *batch,
    struct device_request *requests, uint32_t count);

/* Waits for all requests of the batch; 0 or the first error.  The batch may then
 * be used again. */
int device_wait(struct device *device, struct device_batch *batch);

/* Has every request of the batch ended?  Does not block. */
bool device_batch_is_done(struct device *device, struct device_batch *batch);

/* One request, submitted and waited for. */
int device_read(struct device *device, void *data, uint32_t bytes, uint64_t offset);
int device_write(struct device *device, const void *data, uint32_t bytes, uint64_t offset);

/*
 * Makes completed writes survive power loss (fdatasync).  A failure is for good:
 * the kernel may have dropped dirty pages, so this and every later flush and write
 * answer the first error ("fsyncgate": https://lwn.net/Articles/752063/).
 */
int device_flush(struct device *device);

/*
 * Makes the host allocate the range, so that later writes do not meet ENOSPC.
 * 0 also where the host has no such call (block devices).
 */
int device_allocate(struct device *device, uint64_t offset, uint64_t bytes);

/* Gives the range back to the host; what it reads afterwards is undefined.
 * -EOPNOTSUPP where the host cannot. */
int device_discard(struct device *device, uint64_t offset, uint64_t bytes);

struct device_counters {
	uint64_t reads, read_bytes, writes, write_bytes, flushes;
};

void device_counters(struct device *device, struct device_counters *ret);

#endif
