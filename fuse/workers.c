/*
 * The loop: threads that each receive a request, have it handled, and reply before
 * they receive the next.
 *
 *             call                     request arrives
 *   bench <---------> reading /dev/fuse <-----------> handling
 *             rest                     replied
 *
 * How many.  The kernel wakes its readers in turn, so with many of them each request
 * meets a thread that has slept for long, on another processor: six readers create
 * files a third slower than one.  But with one reader a request that takes long would
 * keep the next one waiting.  So two read, normally:
 *
 * - A worker that has replied and finds READERS_MAX others reading rests on the
 *   bench, which is a stack: the warmest is called first.
 * - A worker that leaves nobody reading and begins what surely takes long, an fsync,
 *   calls another first: from the bench, or a new thread, up to WORKERS_MAX.
 * - Otherwise it only sees to it that the *lookout* is awake.  Usually the other
 *   reader is back in a moment, and calling would cost more than it helps.  The
 *   lookout looks every LOOK_NS and calls a worker when nobody reads twice in a row:
 *   the load is steady, or everybody is stuck.  After LOOKS_QUIET looks at which
 *   nobody had left the readers' place empty it sleeps again; so nothing wakes up in
 *   an idle mount.
 *
 * Idle workers sleep in read(2) or futex(2) and cost a stack.
 *
 * Stopping.  There are two ways out:
 *
 * a. The mount goes away.  Every read answers ENODEV; all workers leave.
 * b. workers_stop(), while files are open in the mount.  The descriptors become
 *    non-blocking and each worker gets a signal.  One asleep in read is woken by it
 *    (EINTR); one on its way to read finds either a request, which it answers, or
 *    EAGAIN.  No order of these steps leaves a sleeper behind.
 *    A program that keeps sending could hold the workers for ever: at the deadline
 *    they leave whatever is still queued.
 *
 * Either way the bench is closed first: its workers are called, nobody rests any more
 * and the lookout leaves.  fuse_session_exit() is not used for b: libfuse then throws away a request
 * that it has just read.
 *
 * 1. A worker leaves only between requests, so after workers_destroy() no handler
 *    runs.
 * 2. A reply is written by the thread, and so the descriptor, that read the request
 *    (channel.c).
 * 3. reading counts the workers that read or are on their way there.  While it is 0
 *    and somebody may be called, the lookout is awake.
 * 4. The last worker to leave writes ended_fd.
 */
#include "config.h"

#include "fuse/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/lock.h"
#include "fuse/channel.h"
#include "fuse/daemon.h"
#include "fuse/log.h"
#include "fuse/session.h"

#include <fuse_lowlevel.h>

#define READERS_MAX 2
#define WORKERS_MAX 10
#define LOOK_NS	    (1000ull * 1000)
#define LOOKS_QUIET 100
#define DRAIN_NS    (2ull * 1000 * 1000 * 1000)

enum lookout { LOOKOUT_ASLEEP, LOOKOUT_AWAKE, LOOKOUT_LEAVES };

struct worker {
	struct workers *workers; /* set at init */
	pthread_t thread;	 /* set at init */
	int fd; /* set at init: clone of /dev/fuse, or -1: the session's */

	struct worker *below;	    /* guarded by lock: next on the bench */
	_Atomic uint32_t is_called; /* atomic: futex word of a resting worker */
};

struct workers {
	struct daemon *daemon;	   /* set at init */
	struct fuse_session *fuse; /* set at init */
	int ended_fd;		   /* set at init */

	struct mutex lock;
	/* Guarded by lock; an entry does not change once its thread runs. */
	struct worker all[WORKERS_MAX];
	_Atomic unsigned count; /* atomic: grows under lock */
	struct worker *bench;	/* guarded by lock */
	bool is_bench_closed;	/* guarded by lock */

	pthread_t lookout_thread; /* set by start */
	bool has_lookout;	  /* set by start */
	_Atomic uint32_t lookout; /* atomic: enum lookout, futex word */
	_Atomic unsigned empties; /* atomic: times that reading came to 0 */

	_Atomic unsigned reading;      /* atomic */
	_Atomic unsigned running;      /* atomic: not yet left */
	_Atomic uint64_t stop_time_ns; /* atomic: 0 unless stopping: deadline */
};

static void *run_worker(void *arg);

/* ---- calling and resting ------------------------------------------------------ */

/* The caller counts whom it calls as reading, so that nobody calls twice. */
static bool call_from_bench_locked(struct workers *workers)
{
	struct worker *worker = workers->bench;

	if (!worker)
		return false;
	workers->bench = worker->below;
	atomic_fetch_add(&workers->reading, 1);
	atomic_store(&worker->is_called, 1);
	futex_wake(&worker->is_called, 1);
	return true;
}

static bool start_worker_locked(struct workers *workers)
{
	unsigned count = atomic_load(&workers->count);
	struct worker *worker = &workers->all[count];
	int fd = -1;

	if (count == WORKERS_MAX || workers->is_bench_closed)
		return false;
	if (session_has_clones(workers->daemon->session))
		fd = channel_clone(fuse_session_fd(workers->fuse));
	*worker = (struct worker){.workers = workers, .fd = fd < 0 ? -1 : fd};
	atomic_fetch_add(&workers->reading, 1);
	atomic_fetch_add(&workers->running, 1);
	if (pthread_create(&worker->thread, NULL, run_worker, worker)) {
		atomic_fetch_sub(&workers->reading, 1);
		atomic_fetch_sub(&workers->running, 1);
		if (worker->fd >= 0)
			close(worker->fd);
		return false;
	}
	atomic_store(&workers->count, count + 1);
	return true;
}

static bool call_worker(struct workers *workers)
{
	bool is_coming;

	mutex_lock(&workers->lock);
	is_coming = call_from_bench_locked(workers) || start_worker_locked(workers);
	mutex_unlock(&workers->lock);
	return is_coming;
}

static void close_bench(struct workers *workers)
{
	mutex_lock(&workers->lock);
	workers->is_bench_closed = true;
	while (call_from_bench_locked(workers))
		;
	mutex_unlock(&workers->lock);
	atomic_store(&workers->lookout, LOOKOUT_LEAVES);
	futex_wake(&workers->lookout, 1);
}

/* Sits down, unless that would leave nobody reading (invariant 3). */
static bool sit_down(struct worker *worker)
{
	struct workers *workers = worker->workers;
	bool is_resting = false;

	mutex_lock(&workers->lock);
	if (!workers->is_bench_closed) {
		is_resting = atomic_fetch_sub(&workers->reading, 1) > 1;
		if (!is_resting)
			atomic_fetch_add(&workers->reading, 1);
	}
	if (is_resting) {
		atomic_store(&worker->is_called, 0);
		worker->below = workers->bench;
		workers->bench = worker;
	}
	mutex_unlock(&workers->lock);
	return is_resting;
}

static void rest_if_many_read(struct worker *worker)
{
	if (atomic_load(&worker->workers->reading) <= READERS_MAX ||
	    !sit_down(worker))
		return;
	while (!atomic_load(&worker->is_called))
		futex_wait(&worker->is_called, 0);
}

/* ---- the lookout -------------------------------------------------------------- */

static bool change_lookout(struct workers *workers, uint32_t from, uint32_t to)
{
	return atomic_compare_exchange_strong(&workers->lookout, &from, to);
}

/* Counted first: a lookout about to sleep looks at the count once more. */
static void wake_lookout(struct workers *workers)
{
	atomic_fetch_add(&workers->empties, 1);
	if (atomic_load(&workers->lookout) == LOOKOUT_ASLEEP &&
	    change_lookout(workers, LOOKOUT_ASLEEP, LOOKOUT_AWAKE))
		futex_wake(&workers->lookout, 1);
}

/* Until there was nothing to see for a while; returns the empties it has seen. */
static unsigned look_out(struct workers *workers)
{
	unsigned seen = atomic_load(&workers->empties);
	unsigned quiet = 0;
	bool was_empty = false;

	while (
	    quiet < LOOKS_QUIET && atomic_load(&workers->lookout) == LOOKOUT_AWAKE) {
		unsigned empties;
		bool is_empty;

		futex_wait_for(&workers->lookout, LOOKOUT_AWAKE, LOOK_NS);
		is_empty = atomic_load(&workers->reading) == 0;
		if (is_empty && was_empty)
			call_worker(workers);
		was_empty = is_empty;
		empties = atomic_load(&workers->empties);
		quiet = empties == seen ? quiet + 1 : 0;
		seen = empties;
	}
	return seen;
}

static void *run_lookout(void *arg)
{
	struct workers *workers = arg;

	while (atomic_load(&workers->lookout) != LOOKOUT_LEAVES) {
		unsigned seen;

		futex_wait(&workers->lookout, LOOKOUT_ASLEEP);
		seen = look_out(workers);
		if (change_lookout(workers, LOOKOUT_AWAKE, LOOKOUT_ASLEEP) &&
		    atomic_load(&workers->empties) != seen)
			change_lookout(workers, LOOKOUT_ASLEEP, LOOKOUT_AWAKE);
	}
	return NULL;
}

/* ---- requests ----------------------------------------------------------------- */

static uint32_t opcode_of(const struct fuse_buf *buf)
{
	const struct fuse_in_header *header = buf->mem;

	return header->opcode;
}

/* Nobody is left to take the next request while this one is handled. */
static void provide_reader(struct workers *workers, uint32_t opcode)
{
	switch (opcode) {
	case FUSE_FORGET: /* no answer, no time */
	case FUSE_BATCH_FORGET:
		break;
	case FUSE_FSYNC: /* wait for the disk */
	case FUSE_FSYNCDIR:
		call_worker(workers);
		break;
	default:
		wake_lookout(workers);
	}
}

static void process_request(struct worker *worker, struct fuse_buf *buf)
{
	struct workers *workers = worker->workers;

	if (atomic_fetch_sub(&workers->reading, 1) == 1)
		provide_reader(workers, opcode_of(buf));
	fuse_session_process_buf(workers->fuse, buf);
	atomic_fetch_add(&workers->reading, 1);
	rest_if_many_read(worker);
}

static bool is_past_deadline(struct workers *workers)
{
	uint64_t stop_time_ns = atomic_load(&workers->stop_time_ns);

	return stop_time_ns && monotonic_ns() >= stop_time_ns;
}

/* Returns when there is nothing more to do. */
static void serve_requests(struct worker *worker)
{
	struct workers *workers = worker->workers;
	struct fuse_buf buf = {.mem = NULL};

	while (!is_past_deadline(workers)) {
		int bytes = fuse_session_receive_buf(workers->fuse, &buf);

		if (bytes > 0) {
			process_request(worker, &buf);
			continue;
		}
		if (bytes == 0 || atomic_load(&workers->stop_time_ns))
			break;
		if (bytes != -EINTR && bytes != -EAGAIN) {
			log_error("%s: receiving requests failed: %s",
			    workers->daemon->mountpoint, strerror(-bytes));
			break;
		}
	}
	free(buf.mem);
}

static void *run_worker(void *arg)
{
	struct worker *worker = arg;
	struct workers *workers = worker->workers;
	uint64_t one = 1;
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, WORKERS_KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	channel_use(worker->fd);
	serve_requests(worker);
	close_bench(workers);
	if (atomic_fetch_sub(&workers->running, 1) == 1 &&
	    write(workers->ended_fd, &one, sizeof(one)) != sizeof(one))
		log_error("waking the main thread failed: %s", strerror(errno));
	return NULL;
}

/* ---- life --------------------------------------------------------------------- */

/* Its arrival is all that matters: it ends the read. */
static void on_kick(int signal_number)
{
}

int workers_create(struct daemon *daemon, struct workers **ret)
{
	struct workers *workers = calloc(1, sizeof(*workers));
	int ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int err = ended_fd < 0 ? -errno : 0;

	if (!workers || err) {
		err = err ? err : -ENOMEM;
		log_error("%s: preparing threads failed: %s", daemon->mountpoint,
		    strerror(-err));
		if (ended_fd >= 0)
			close(ended_fd);
		free(workers);
		return err;
	}
	workers->daemon = daemon;
	workers->fuse = session_fuse(daemon->session);
	workers->ended_fd = ended_fd;
	mutex_init(&workers->lock, RANK_DAEMON);
	*ret = workers;
	return 0;
}

int workers_start(struct workers *workers)
{
	struct sigaction action = {.sa_handler = on_kick};

	sigemptyset(&action.sa_mask);
	if (sigaction(WORKERS_KICK_SIGNAL, &action, NULL))
		return -errno;
	for (unsigned i = 0; i < READERS_MAX; i++)
		if (!call_worker(workers) && i == 0) {
			log_error("%s: no thread could be started",
			    workers->daemon->mountpoint);
			return -EAGAIN;
		}
	if (pthread_create(&workers->lookout_thread, NULL, run_lookout, workers)) {
		log_error(
		    "%s: no thread could be started", workers->daemon->mountpoint);
		return -EAGAIN;
	}
	workers->has_lookout = true;
	return 0;
}

int workers_ended_fd(const struct workers *workers)
{
	return workers->ended_fd;
}

static void make_nonblocking(int fd)
{
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void workers_stop(struct workers *workers)
{
	unsigned count;

	atomic_store(&workers->stop_time_ns, monotonic_ns() + DRAIN_NS);
	close_bench(workers); /* nobody is added from here on */
	count = atomic_load(&workers->count);
	make_nonblocking(fuse_session_fd(workers->fuse));
	for (unsigned i = 0; i < count; i++)
		make_nonblocking(workers->all[i].fd);
	for (unsigned i = 0; i < count; i++)
		pthread_kill(workers->all[i].thread, WORKERS_KICK_SIGNAL);
}

void workers_destroy(struct workers *workers)
{
	unsigned count;

	if (!workers)
		return;
	for (unsigned i = 0; i < atomic_load(&workers->count); i++)
		pthread_join(workers->all[i].thread, NULL);
	count = atomic_load(&workers->count);
	for (unsigned i = 0; i < count; i++)
		if (workers->all[i].fd >= 0)
			close(workers->all[i].fd);
	if (workers->has_lookout)
		pthread_join(workers->lookout_thread, NULL);
	close(workers->ended_fd);
	mutex_fini(&workers->lock);
	free(workers);
}
