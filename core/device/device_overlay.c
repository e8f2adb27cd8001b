/*
 * A layer over a device that must not be written: writes go to an unlinked temporary
 * file, reads come from there for blocks written, else from the device below.  Thus a
 * volume that was not closed can be recovered and read without being changed.
 *
 *	layer   |    |####|    |    |##  |     temporary file, same offsets, sparse
 *	inner   |abcd|efgh|ijkl|mnop|qrst|     read only
 *	seen    |abcd|####|ijkl|mnop|##st|
 *
 * Invariant: a block's bit in is_written is set after its bytes are in the layer.
 *
 * Locking: bits are atomic; overlapping requests at the same time are the caller's
 * mistake, as on a disk.  Power loss: the layer is gone, the device as it was.
 */
#include "config.h"

#include "device/device_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"

struct overlay_device {
	struct device device;
	struct device *inner; /* owned, unless detached */
	int layer_fd;
	_Atomic uint8_t *is_written; /* a bit a block */
};

static const char *const layer_directories[] = {"/var/tmp", "/tmp"};

static struct overlay_device *overlay_of(struct device *device)
{
	return (struct overlay_device *)device;
}

static const char *overlay_describe(const struct device *device)
{
	return device_describe(((const struct overlay_device *)device)->inner);
}

static bool is_written(const struct overlay_device *overlay, uint64_t block)
{
	return atomic_load(&overlay->is_written[block / 8]) & (1u << block % 8);
}

static int layer_transfer(struct overlay_device *overlay, struct device_request *request)
{
	uint64_t first = request->offset / DEVICE_ALIGN;
	int err = sync_transfer(overlay->layer_fd, request);

	if (err || request->op == DEVICE_READ)
		return err;
	for (uint64_t block = first; block < first + request->bytes / DEVICE_ALIGN; block++)
		atomic_fetch_or(&overlay->is_written[block / 8], (uint8_t)(1u << block % 8));
	return 0;
}

/* Reads runs of blocks that lie in the same place together. */
static int overlay_read(struct overlay_device *overlay, struct device_request *request)
{
	uint64_t block = request->offset / DEVICE_ALIGN;
	uint64_t end = block + request->bytes / DEVICE_ALIGN;
	char *data = request->data;
	int err = 0;

	while (block < end && !err) {
		bool is_in_layer = is_written(overlay, block);
		uint64_t start = block;
		struct device_request part;

		while (block < end && is_written(overlay, block) == is_in_layer)
			block++;
		part = (struct device_request){
		    .op = DEVICE_READ,
		    .slot = DEVICE_NO_SLOT,
		    .data = data,
		    .bytes = (uint32_t)((block - start) * DEVICE_ALIGN),
		    .offset = start * DEVICE_ALIGN,
		};
		if (is_in_layer)
			err = layer_transfer(overlay, &part);
		else
			err = device_read(overlay->inner, data, part.bytes, part.offset);
		data += part.bytes;
	}
	return err;
}

static int overlay_transfer(struct device *device, struct device_request *request)
{
	struct overlay_device *overlay = overlay_of(device);

	if (request->op == DEVICE_READ)
		return overlay_read(overlay, request);
	return layer_transfer(overlay, request);
}

static int overlay_flush(struct device *device)
{
	return 0;
}

static int overlay_allocate(struct device *device, uint64_t offset, uint64_t bytes)
{
	return 0;
}

static int overlay_discard(struct device *device, uint64_t offset, uint64_t bytes)
{
	return -EOPNOTSUPP;
}

static void overlay_close(struct device *device)
{
	struct overlay_device *overlay = overlay_of(device);

	device_close(overlay->inner);
	if (overlay->layer_fd >= 0)
		close(overlay->layer_fd);
	free(overlay->is_written);
	free(overlay);
}

static const struct device_ops overlay_ops = {
    .describe = overlay_describe,
    .transfer = overlay_transfer,
    .flush = overlay_flush,
    .allocate = overlay_allocate,
    .discard = overlay_discard,
    .close = overlay_close,
};

static int open_layer(void)
{
	for (unsigned i = 0; i < sizeof(layer_directories) / sizeof(layer_directories[0]); i++) {
		int fd = open(layer_directories[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

		if (fd >= 0)
			return fd;
	}
	return memfd_create("holtfs-overlay", MFD_CLOEXEC);
}

int device_open_overlay(struct device *inner, struct device **ret)
{
	struct overlay_device *overlay = calloc(1, sizeof(*overlay));
	int err;

	if (!overlay)
		return -ENOMEM;
	device_init(&overlay->device, &overlay_ops, device_bytes(inner));
	overlay->layer_fd = open_layer();
	err = overlay->layer_fd < 0 ? -errno : 0;
	overlay->is_written = calloc(device_bytes(inner) / DEVICE_ALIGN / 8 + 1, 1);
	if (!err && !overlay->is_written)
		err = -ENOMEM;
	if (err) {
		overlay_close(&overlay->device);
		return err;
	}
	overlay->inner = inner;
	*ret = &overlay->device;
	return 0;
}

void device_overlay_detach(struct device *device)
{
	overlay_of(device)->inner = NULL;
}
