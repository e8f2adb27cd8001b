/*
 * What the back ends share: the table of operations behind struct device, and the
 * front's own helpers for back ends that stand on another (faulty) or end requests
 * from any thread (uring).  Private to core/device.
 */
#ifndef HOLTFS_DEVICE_DEVICE_INTERNAL_H
#define HOLTFS_DEVICE_DEVICE_INTERNAL_H

#include "device/device.h"

struct memory_image;

/* Requests that reach these are inside the device, aligned, and allowed. */
struct device_ops {
	const char *(*describe)(const struct device *device);

	/* One request in the calling thread; 0 or -errno.  The only one of the
	 * first four that every back end has. */
	int (*transfer)(struct device *device, struct device_request *request);

	/* Starts requests that their batch counts already.  NULL: submitting
	 * transfers them one after the other. */
	void (*submit)(struct device *device, struct device_request *requests,
	    uint32_t count);

	/* Returns when the batch has nothing pending.  NULL: sleep on its word. */
	void (*wait)(struct device *device, struct device_batch *batch);

	/* Ends requests whose answers lie ready; does not block.  NULL: none do. */
	void (*poll)(struct device *device);

	int (*flush)(struct device *device);
	int (*allocate)(struct device *device, uint64_t offset, uint64_t bytes);
	int (*discard)(struct device *device, uint64_t offset, uint64_t bytes);

	/* NULL: this back end knows no registered memory. */
	void (*register_slab)(struct device *device, void *base,
	    uint32_t slot_bytes, uint32_t slot_count);
	void (*register_slots)(struct device *device, uint32_t first, uint32_t count);

	/* The bytes themselves where they lie in memory.  NULL: they do not. */
	struct memory_image *(*image)(struct device *device);

	void (*close)(struct device *device);
};

/* First member of each back end's own structure. */
struct device {
	const struct device_ops *ops; /* set at open */
	uint64_t bytes;		      /* set at open */
	bool is_read_only;	      /* set at open */
	_Atomic int sticky_error;     /* first failure of a flush, 0: none */
	_Atomic uint64_t reads, read_bytes, writes, write_bytes, flushes;
};

void device_init(struct device *device, const struct device_ops *ops, uint64_t bytes);

/*
 * device_batch.pending: the number of requests under way and one bit by which a
 * back end wakes the waiting thread for another reason than the end of the batch.
 */
#define DEVICE_BATCH_NUDGE 0x80000000u
#define DEVICE_BATCH_COUNT 0x7fffffffu

/* The request is over.  It and its batch belong to the caller's caller from here. */
void device_request_end(struct device_request *request, int result);

/* The operation on a device without the front's checks and counts. */
void device_start(struct device *device, struct device_request *requests, uint32_t count);
void device_await(struct device *device, struct device_batch *batch);
struct memory_image *device_image(struct device *device);

/* pread or pwrite until the request is whole, from where it stands. */
int sync_transfer(int fd, struct device_request *request);

/*
 * The ring over one descriptor.  Creating it costs nothing; the kernel is asked at
 * the first submit or uring_register_slots.  Where the kernel refuses, requests
 * become pread and pwrite in the submitting thread.
 */
struct uring;

enum uring_mode {
	URING_MODE_UNSTARTED,
	URING_MODE_REGISTERED,
	URING_MODE_PARTLY_REGISTERED,
	URING_MODE_PLAIN,
	URING_MODE_SYNC,
	URING_MODE_COUNT
};

int uring_probe(void); /* 0: a ring can be made, else -errno */
struct uring *uring_create(int fd, const char *path); /* NULL: out of memory */
bool uring_destroy(struct uring *uring);	      /* was there a ring? */
void uring_submit(struct uring *uring, struct device_request *requests, uint32_t count);
void uring_wait(struct uring *uring, struct device_batch *batch);
void uring_poll(struct uring *uring);
void uring_register_slab(struct uring *uring, void *base, uint32_t slot_bytes,
    uint32_t slot_count);
void uring_register_slots(struct uring *uring, uint32_t first, uint32_t count);
enum uring_mode uring_mode(struct uring *uring);

/*
 * Which slots the kernel has as registered buffers.
 */
struct slab {
	uint8_t *base; /* NULL: none announced */
	uint64_t slot_bytes;
	uint32_t slot_count;
	uint32_t slots_a_buffer;
	uint32_t buffer_count;
	uint32_t *missing;   /* for each buffer: slots not faulted in */
	bool *is_registered; /* for each buffer */
	uint32_t registered_count;
};

int slab_init(struct slab *slab, void *base, uint32_t slot_bytes, uint32_t slot_count);
void slab_fini(struct slab *slab);
void slab_fault_in(struct slab *slab, uint32_t first, uint32_t count);

/* Moves *@first to the next buffer below @end that may be registered and is not;
 * how many such, at most @count_max, lie there in a row. */
uint32_t slab_next_run(const struct slab *slab, uint32_t *first, uint32_t end,
    uint32_t count_max);
void slab_set_registered(struct slab *slab, uint32_t first, uint32_t count);

uint32_t slab_buffer_at(const struct slab *slab, uint32_t slot);
uint8_t *slab_buffer_start(const struct slab *slab, uint32_t buffer);
uint64_t slab_buffer_bytes(const struct slab *slab, uint32_t buffer);

/* The registered buffer that holds the request's data, or -1. */
int slab_buffer_of(const struct slab *slab, const struct device_request *request);

/*
 * Bytes in memory, most of them never touched: copying costs what was written.
 */
struct memory_image {
	uint8_t *base;
	uint64_t bytes;
	_Atomic uint8_t *is_touched; /* one for each MEMORY_CHUNK bytes */
};

int memory_image_init(struct memory_image *image, uint64_t bytes);
void memory_image_fini(struct memory_image *image);
void memory_image_read(const struct memory_image *image, void *data, uint64_t bytes,
    uint64_t offset);
void memory_image_write(struct memory_image *image, const void *data, uint64_t bytes,
    uint64_t offset);
void memory_image_fill(struct memory_image *image, uint8_t byte, uint64_t bytes,
    uint64_t offset);
int memory_image_clear(struct memory_image *image, uint64_t bytes, uint64_t offset);

/* @to has the size of @from and is untouched. */
void memory_image_copy(struct memory_image *to, const struct memory_image *from);

/* A memory device with @image, which it takes over on success. */
int device_open_image(struct memory_image *image, struct device **ret);

#endif
