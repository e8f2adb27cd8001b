/*
 * Reads and writes of /dev/fuse, done for libfuse (fuse_session_custom_io, 3.13 to
 * 3.18.2).
 *
 *   libfuse --read/writev--> here --> the thread's clone of /dev/fuse
 *
 * 1. The kernel keeps the requests it handed out in a list for each descriptor, so
 *    a reply by another one finds nothing.  Handlers answer on the thread that read
 *    the request; hence one thread-local descriptor is enough.
 * 2. The first request, INIT, is read and answered by the session's own descriptor.
 *    libfuse before 3.17 never asks for FUSE_PARALLEL_DIROPS, and the kernel then
 *    takes one look-up or listing a directory at a time.  The flag is put into the
 *    reply here, if the kernel offered it.
 */
#include "config.h"

#include "fuse/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuse/daemon.h"

#include <fuse_lowlevel.h>

static _Thread_local int thread_fd = -1;

void channel_use(int fd)
{
	thread_fd = fd;
}

int channel_clone(int master)
{
	cleanup_fd int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	uint32_t source = (uint32_t)master;

	if (fd < 0 || ioctl(fd, FUSE_DEV_IOC_CLONE, &source))
		return -errno;
	return steal_fd(&fd);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 13)

static void note_init_request(
    struct daemon *daemon, const void *request, size_t bytes)
{
	const struct fuse_in_header *header = request;
	const struct fuse_init_in *init = (const void *)(header + 1);

	if (bytes >= sizeof(*header) + offsetof(struct fuse_init_in, flags) +
			 sizeof(init->flags) &&
	    header->opcode == FUSE_INIT)
		daemon->kernel_init_flags = init->flags;
}

static ssize_t read_request(int fd, void *data, size_t capacity, void *userdata)
{
	struct daemon *daemon = userdata;
	ssize_t bytes = read(thread_fd >= 0 ? thread_fd : fd, data, capacity);

	if (bytes > 0 && !daemon->is_initialised)
		note_init_request(daemon, data, (size_t)bytes);
	return bytes;
}

/* The one reply that carries a fuse_init_out: no other is as long before it. */
static void add_init_flags(const struct daemon *daemon, struct iovec *iov, int count)
{
	const uint32_t added = FUSE_PARALLEL_DIROPS;
	struct fuse_init_out *init;

	if (count != 2 || iov[1].iov_len < FUSE_COMPAT_22_INIT_OUT_SIZE)
		return;
	init = iov[1].iov_base;
	init->flags |= added & daemon->kernel_init_flags;
}

static ssize_t write_reply(int fd, struct iovec *iov, int count, void *userdata)
{
	struct daemon *daemon = userdata;

	if (daemon->kernel_init_flags) {
		add_init_flags(daemon, iov, count);
		daemon->kernel_init_flags = 0;
	}
	return writev(thread_fd >= 0 ? thread_fd : fd, iov, count);
}

bool channel_attach(struct fuse_session *fuse)
{
	static const struct fuse_custom_io io = {
	    .writev = write_reply, .read = read_request};

	return fuse_session_custom_io(fuse, &io, fuse_session_fd(fuse)) == 0;
}

#else

bool channel_attach(struct fuse_session *fuse)
{
	return false;
}

#endif
