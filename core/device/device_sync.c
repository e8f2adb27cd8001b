/*
 * pread(2) and pwrite(2): the back end that works everywhere, and the way out for
 * requests that io_uring would not take.
 *
 * A transfer that stops short goes on from the last whole block, because direct
 * I/O takes no other offset.  A step without a whole block is the end of the file:
 * the volume was cut off under us, and the request fails with -EIO.
 *
 * Locking: none.  Power loss: a write is on the host's side when it ends, durable
 * after the next flush.
 */
#include "config.h"

#include "device/device_internal.h"

#include <errno.h>
#include <unistd.h>

static ssize_t transfer_step(int fd, struct device_request *request)
{
	char *data = (char *)request->data + request->done_bytes;
	size_t bytes = request->bytes - request->done_bytes;
	off_t offset = (off_t)(request->offset + request->done_bytes);

	if (request->op == DEVICE_WRITE)
		return pwrite(fd, data, bytes, offset);
	return pread(fd, data, bytes, offset);
}

int sync_transfer(int fd, struct device_request *request)
{
	while (request->done_bytes < request->bytes) {
		ssize_t done = transfer_step(fd, request);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (done < DEVICE_ALIGN)
			return -EIO;
		request->done_bytes += (uint32_t)(done - done % DEVICE_ALIGN);
	}
	return 0;
}
