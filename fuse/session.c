/*
 * The loop: threads that each receive a request, have it handled, and reply before
 * they receive the next.
 *
 * Workers.  Two at first.  A worker that takes a request and leaves nobody waiting
 * for the next one starts another, up to WORKERS_MAX; so a lone program is served
 * by two warm threads, and one slow fsync does not stop the rest.  They stay: an
 * idle worker sleeps in read(2) and costs a stack.
 *
 *   idle:  starts counted (the thread is on its way to read)
 *          -1 when a request arrives, +1 when it has been answered
 *
 * Stopping.  There are two ways out:
 *
 * a. The mount goes away.  Every read answers ENODEV; all workers leave.
 * b. session_stop(), while files are open in the mount.  The descriptors become
 *    non-blocking and each worker gets a signal.  One asleep in read is woken by
 *    it (EINTR); one on its way to read finds either a request, which it answers,
 *    or EAGAIN.  No order of these steps leaves a sleeper behind.
 *    A program that keeps sending could hold the workers for ever: at the deadline
 *    they leave whatever is still queued.
 *
 * fuse_session_exit() is not used for b: libfuse then throws away a request that it
 * has just read.
 *
 * 1. A worker leaves only between requests, so after session_join() no handler runs.
 * 2. A reply is written by the thread, and so the descriptor, that read the request
 *    (channel.c).
 * 3. The last worker to leave writes ended_fd, once.
 */
#include "config.h"

#include "fuse/session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "fuse/channel.h"
#include "fuse/daemon.h"
#include "fuse/log.h"
#include "fuse/ops.h"

#include <fuse_lowlevel.h>

#define WORKERS_START 2
#define WORKERS_MAX   10
#define DRAIN_NS      (2ull * 1000 * 1000 * 1000)

struct worker {
	struct session *session;
	pthread_t thread;
	int fd; /* its clone of /dev/fuse, or -1: the session's */
};

struct session {
	struct daemon *daemon;	   /* set at init */
	struct fuse_session *fuse; /* set at init */
	int ended_fd;		   /* set at init */
	bool has_clones;	   /* set before workers start */

	struct mutex lock;
	/* Guarded by lock; an entry does not change once its thread runs. */
	struct worker workers[WORKERS_MAX];
	_Atomic unsigned worker_count; /* atomic: grows under lock */

	_Atomic unsigned idle;	       /* atomic: waiting for a request */
	_Atomic unsigned running;      /* atomic: not yet left */
	_Atomic uint64_t stop_time_ns; /* atomic: 0 unless stopping: deadline */
};

/* ---- workers ---------------------------------------------------------------- */

static bool start_worker(struct session *session);

/* FORGETs need no answer and no time: no reason for another thread. */
static bool is_forget(const struct fuse_buf *buf)
{
	const struct fuse_in_header *header = buf->mem;

	return header->opcode == FUSE_FORGET || header->opcode == FUSE_BATCH_FORGET;
}

static void process_request(struct session *session, struct fuse_buf *buf)
{
	unsigned idle_before = atomic_fetch_sub(&session->idle, 1);

	if (idle_before == 1 && !is_forget(buf) &&
	    atomic_load_explicit(&session->worker_count, memory_order_relaxed) <
		WORKERS_MAX)
		start_worker(session);
	fuse_session_process_buf(session->fuse, buf);
	atomic_fetch_add(&session->idle, 1);
}

static bool is_past_deadline(struct session *session)
{
	uint64_t stop_time_ns = atomic_load(&session->stop_time_ns);

	return stop_time_ns && monotonic_ns() >= stop_time_ns;
}

/* Returns when there is nothing more to do for this session. */
static void serve_requests(struct session *session)
{
	struct fuse_buf buf = {.mem = NULL};

	while (!is_past_deadline(session)) {
		int bytes = fuse_session_receive_buf(session->fuse, &buf);

		if (bytes > 0) {
			process_request(session, &buf);
			continue;
		}
		if (bytes == 0 || atomic_load(&session->stop_time_ns))
			break;
		if (bytes != -EINTR && bytes != -EAGAIN) {
			log_error("%s: receiving requests failed: %s",
			    session->daemon->mountpoint, strerror(-bytes));
			break;
		}
	}
	free(buf.mem);
}

static void *run_worker(void *arg)
{
	struct worker *worker = arg;
	struct session *session = worker->session;
	uint64_t one = 1;
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, SESSION_KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	channel_use(worker->fd);
	serve_requests(session);
	atomic_fetch_sub(&session->idle, 1);
	if (atomic_fetch_sub(&session->running, 1) == 1 &&
	    write(session->ended_fd, &one, sizeof(one)) != sizeof(one))
		log_error("waking the main thread failed: %s", strerror(errno));
	return NULL;
}

static bool start_worker_locked(struct session *session)
{
	unsigned count =
	    atomic_load_explicit(&session->worker_count, memory_order_relaxed);
	struct worker *worker = &session->workers[count];
	int fd = -1;

	if (count == WORKERS_MAX || atomic_load(&session->stop_time_ns))
		return false;
	if (session->has_clones)
		fd = channel_clone(fuse_session_fd(session->fuse));
	*worker = (struct worker){.session = session, .fd = fd < 0 ? -1 : fd};
	atomic_fetch_add(&session->idle, 1);
	atomic_fetch_add(&session->running, 1);
	if (pthread_create(&worker->thread, NULL, run_worker, worker)) {
		atomic_fetch_sub(&session->idle, 1);
		atomic_fetch_sub(&session->running, 1);
		if (worker->fd >= 0)
			close(worker->fd);
		return false;
	}
	atomic_store_explicit(
	    &session->worker_count, count + 1, memory_order_relaxed);
	return true;
}

static bool start_worker(struct session *session)
{
	bool is_started;

	mutex_lock(&session->lock);
	is_started = start_worker_locked(session);
	mutex_unlock(&session->lock);
	return is_started;
}

/* Its arrival is all that matters: it ends the read. */
static void on_kick(int signal_number)
{
}

int session_start(struct session *session)
{
	struct sigaction action = {.sa_handler = on_kick};

	sigemptyset(&action.sa_mask);
	if (sigaction(SESSION_KICK_SIGNAL, &action, NULL))
		return -errno;
	for (unsigned i = 0; i < WORKERS_START; i++)
		if (!start_worker(session) && i == 0) {
			log_error("%s: no thread could be started",
			    session->daemon->mountpoint);
			return -EAGAIN;
		}
	return 0;
}

static void make_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (fd >= 0 && flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void session_stop(struct session *session)
{
	unsigned count;

	mutex_lock(&session->lock); /* no worker is added from here on */
	atomic_store(&session->stop_time_ns, monotonic_ns() + DRAIN_NS);
	count = atomic_load(&session->worker_count);
	make_nonblocking(fuse_session_fd(session->fuse));
	for (unsigned i = 0; i < count; i++)
		make_nonblocking(session->workers[i].fd);
	for (unsigned i = 0; i < count; i++)
		pthread_kill(session->workers[i].thread, SESSION_KICK_SIGNAL);
	mutex_unlock(&session->lock);
}

void session_join(struct session *session)
{
	unsigned count = atomic_load(&session->worker_count);

	for (unsigned i = 0; i < count; i++) {
		pthread_join(session->workers[i].thread, NULL);
		if (session->workers[i].fd >= 0)
			close(session->workers[i].fd);
	}
	atomic_store(&session->worker_count, 0);
}

/* ---- life ------------------------------------------------------------------- */

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
	mutex_init(&session->lock, RANK_DAEMON);
	session->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = session->ended_fd < 0 ? -errno : create_fuse(session);
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

int session_ended_fd(const struct session *session)
{
	return session->ended_fd;
}

bool session_is_connected(const struct session *session)
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

	if (!session_is_connected(session) || pipe2(ends, O_CLOEXEC))
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
	if (session->ended_fd >= 0)
		close(session->ended_fd);
	mutex_fini(&session->lock);
	free(session);
}
