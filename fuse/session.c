/*
 * libfuse's session: what it is told, the mount, the first request, the end.
 * Everything in between is the workers' (workers.c).
 */
#include "config.h"

#include "fuse/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuse/channel.h"
#include "fuse/daemon.h"
#include "fuse/log.h"
#include "fuse/ops.h"

#include <fuse_lowlevel.h>

struct session {
	struct daemon *daemon;	   /* set at init */
	struct fuse_session *fuse; /* set at init */
	bool has_clones;	   /* set by session_mount() */
};

static int add_argument(struct fuse_args *args, const char *argument)
{
	return fuse_opt_add_arg(args, argument) ? -ENOMEM : 0;
}

/* What libfuse and mount(2) are told; libfuse takes options as on a command line. */
static int make_arguments(const struct daemon *daemon, struct fuse_args *args)
{
	const struct options *options = &daemon->options;
	cleanup_free char *list = NULL;
	cleanup_free char *source = NULL;
	char *words = NULL;
	int err = 0;

	if (asprintf(&source, "fsname=%s",
		options->source ? options->source : daemon->volume) < 0) {
		source = NULL;
		return -ENOMEM;
	}
	if (asprintf(&words, "subtype=holtfs,default_permissions,%s%s%s%s%s",
		options->is_read_only ? "ro" : "rw",
		options->has_allow_other ? ",allow_other" : "",
		options->has_no_atime ? ",noatime" : "",
		options->kernel_flags ? "," : "",
		options->kernel_flags ? options->kernel_flags : "") < 0)
		return -ENOMEM;
	list = words;
	if (fuse_opt_add_opt_escaped(&words, source))
		return -ENOMEM;
	list = words;
	err = add_argument(args, "holtfs");
	err = err ? err : add_argument(args, "-o");
	err = err ? err : add_argument(args, list);
	if (options->is_debug)
		err = err ? err : add_argument(args, "-d");
	return err;
}

static int create_fuse(struct session *session)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int err = make_arguments(session->daemon, &args);

	if (!err) {
		session->fuse = fuse_session_new(
		    &args, &daemon_ops, sizeof(daemon_ops), session->daemon);
		if (!session->fuse)
			err = -EINVAL;
	}
	fuse_opt_free_args(&args);
	return err;
}

int session_create(struct daemon *daemon, struct session **ret)
{
	struct session *session = calloc(1, sizeof(*session));
	int err;

	if (!session)
		return -ENOMEM;
	session->daemon = daemon;
	err = create_fuse(session);
	if (err) {
		log_error("%s: preparing the mount failed: %s", daemon->mountpoint,
		    strerror(-err));
		session_destroy(session);
		return err;
	}
	*ret = session;
	return 0;
}

int session_mount(struct session *session)
{
	struct daemon *daemon = session->daemon;
	int failed;

	log_hold_libfuse(true);
	failed = fuse_session_mount(session->fuse, daemon->mountpoint);
	log_hold_libfuse(false);
	if (failed) {
		log_error("%s: mounting %s failed: %s", daemon->mountpoint,
		    daemon->volume,
		    *log_held() ? log_held() : "see the message of fusermount3");
		return -EPERM;
	}
	session->has_clones = channel_attach(session->fuse);
	return 0;
}

int session_greet(struct session *session)
{
	struct daemon *daemon = session->daemon;
	struct fuse_buf buf = {.mem = NULL};
	int bytes = 0;

	while (!daemon->is_initialised && !fuse_session_exited(session->fuse)) {
		bytes = fuse_session_receive_buf(session->fuse, &buf);
		if (bytes > 0)
			fuse_session_process_buf(session->fuse, &buf);
		else if (bytes != -EINTR)
			break;
	}
	free(buf.mem);
	if (daemon->is_initialised && !fuse_session_exited(session->fuse))
		return 0;
	log_error(
	    "%s: the kernel and libfuse do not agree on a protocol, or the mount "
	    "was removed at once",
	    daemon->mountpoint);
	return bytes < 0 ? bytes : -EPROTO;
}

struct fuse_session *session_fuse(const struct session *session)
{
	return session->fuse;
}

bool session_has_clones(const struct session *session)
{
	return session->has_clones;
}

static bool is_connected(const struct session *session)
{
	struct pollfd device = {.fd = fuse_session_fd(session->fuse)};

	return device.fd >= 0 && poll(&device, 1, 0) >= 0 &&
	       !(device.revents & (POLLERR | POLLNVAL));
}

/*
 * libfuse unmounts by path what is still connected when its session ends, which
 * would then hit whatever else is found at that path.  A pipe without reader looks
 * to it like a cut connection; putting one in the place of the descriptor, the last
 * of this connection, cuts ours.
 */
void session_disconnect(struct session *session)
{
	int ends[2];

	if (!is_connected(session) || pipe2(ends, O_CLOEXEC))
		return;
	close(ends[0]);
	dup3(ends[1], fuse_session_fd(session->fuse), O_CLOEXEC);
	close(ends[1]);
}

void session_destroy(struct session *session)
{
	if (!session)
		return;
	if (session->fuse) {
		fuse_session_unmount(session->fuse);
		fuse_session_destroy(session->fuse);
	}
	free(session);
}
