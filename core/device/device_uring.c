/*
 * io_uring: many requests under way at once, from registered memory where the
 * kernel allows (Axboe, "Efficient IO with io_uring", 2019).
 *
 * One ring, made at the first use so that a program may fork before.  Nobody is
 * employed to wait: of the threads that wait for batches one is the *leader*, blocks
 * in the kernel, and ends the requests of all; the others sleep on their batch's
 * word.  A leader whose batch is over leaves, and a sleeper is nudged to take its
 * place ("leader/followers": Schmidt et al., POSA 2, 2000).
 *
 *	submit --lock--> SQ ==> kernel ==> CQ --leader--> device_request_end
 *	                                       |             |
 *	          followers asleep on batch->pending <--wake-'
 *
 *	UNSTARTED --ring made--> RUNNING --submit refused--> BROKEN
 *	    `--refused--> BROKEN         (BROKEN: pread/pwrite in the submitter)
 *
 * Invariants:
 *  1. The SQ side is touched only under `lock`, the CQ side only by the leader.
 *     has_leader changes only under `lock`; so leaders follow each other in order.
 *  2. in_flight counts requests the kernel has and whose answer no leader has
 *     collected.  It stays within the queue, whose completion side is twice as
 *     long; only the rests of short transfers may exceed it.
 *  3. When `lock` is free, requests are in flight, and somebody waits in `waiters`,
 *     then there is a leader, or one of the waiters has been nudged, or a thread is
 *     between collecting and looking again.  Whoever may break this calls
 *     hand_over_locked before it unlocks.
 *  4. A leader takes the lock after collecting and before it looks at the requests:
 *     the submitter held it while the kernel could already answer.
 *  5. Writes leave a quarter of the queue to reads, which must not wait behind the
 *     writes of a checkpoint.
 *  6. A buffer is named in a request only after the kernel has taken it.
 *
 * Locking: `lock` (RANK_DEVICE) is held over submission and registration, never
 * while waiting.  Power loss: a write is on the host's side when it ends, durable
 * after the next flush.
 */
#include "config.h"

#include "device/device_internal.h"

#include <errno.h>
#include <limits.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/futex.h"
#include "base/lock.h"
#include "base/log.h"

#define QUEUE_DEPTH 128u
#define WRITES_MAX (QUEUE_DEPTH / 4 * 3)
#define COLLECT_MAX 32u
#define REGISTER_MAX 16u /* buffers a call: the kernel stops the ring for it */
#define LOST_RING_PAUSE_NS 1000000

enum uring_state { URING_UNSTARTED, URING_RUNNING, URING_BROKEN };

/* A thread asleep, on its stack and in the list while it sleeps. */
struct waiter {
	struct waiter *next;
	struct device_batch *batch;
	bool wants_room; /* in the queue; the batch is its own and never ends */
};

struct answer {
	struct device_request *request; /* NULL: of a withdrawn entry */
	int result;
};

struct uring {
	int fd;		  /* set at creation; not owned */
	const char *path; /* set at creation; not owned */
	struct mutex lock;

	/* The rest is guarded by lock, but for the ring's CQ side. */
	enum uring_state state;
	struct io_uring ring;
	bool has_ring;
	bool has_fixed_file;
	bool has_leader;
	uint32_t in_flight;
	uint32_t writes_in_flight;
	struct waiter *waiters; /* oldest first */
	struct slab slab;
	bool has_table;		/* the kernel has an empty table of buffers */
	bool has_failed_buffer; /* nothing more is registered */
};

static bool is_over(const struct device_batch *batch)
{
	return (atomic_load_explicit(&batch->pending, memory_order_acquire) &
		   DEVICE_BATCH_COUNT) == 0;
}

/* Beginning and end */

int uring_probe(void)
{
	struct io_uring ring;
	int err = io_uring_queue_init(1, &ring, 0);

	if (err == 0)
		io_uring_queue_exit(&ring);
	return err;
}

struct uring *uring_create(int fd, const char *path)
{
	struct uring *uring = calloc(1, sizeof(*uring));

	if (!uring)
		return NULL;
	uring->fd = fd;
	uring->path = path;
	mutex_init(&uring->lock, RANK_DEVICE);
	return uring;
}

static void start_locked(struct uring *uring)
{
	int err;

	mutex_assert_held(&uring->lock);
	if (uring->state != URING_UNSTARTED)
		return;
	err = io_uring_queue_init(QUEUE_DEPTH, &uring->ring, 0);
	if (err < 0) {
		uring->state = URING_BROKEN;
		log_warning("%s: io_uring is not available (%s); using pread and pwrite",
		    uring->path, strerror(-err));
		return;
	}
	uring->state = URING_RUNNING;
	uring->has_ring = true;
	err = io_uring_register_files(&uring->ring, &uring->fd, 1);
	uring->has_fixed_file = err == 0;
	if (err < 0)
		log_info("%s: the kernel does not register the file (%s)",
		    uring->path, strerror(-err));
}

/* Submission */

static void prepare(struct uring *uring, struct io_uring_sqe *sqe,
    struct device_request *request)
{
	char *data = (char *)request->data + request->done_bytes;
	uint32_t bytes = request->bytes - request->done_bytes;
	uint64_t offset = request->offset + request->done_bytes;
	int fd = uring->has_fixed_file ? 0 : uring->fd;
	int buffer = slab_buffer_of(&uring->slab, request);

	if (request->op == DEVICE_WRITE && buffer >= 0)
		io_uring_prep_write_fixed(sqe, fd, data, bytes, offset, buffer);
	else if (request->op == DEVICE_WRITE)
		io_uring_prep_write(sqe, fd, data, bytes, offset);
	else if (buffer >= 0)
		io_uring_prep_read_fixed(sqe, fd, data, bytes, offset, buffer);
	else
		io_uring_prep_read(sqe, fd, data, bytes, offset);
	if (uring->has_fixed_file)
		io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, request);
}

static void count_locked(struct uring *uring, const struct device_request *request, int by)
{
	uring->in_flight += (uint32_t)by;
	if (request->op == DEVICE_WRITE)
		uring->writes_in_flight += (uint32_t)by;
}

static bool has_room(uint32_t in_flight, uint32_t writes_in_flight, enum device_op op)
{
	return in_flight < QUEUE_DEPTH &&
	    (op == DEVICE_READ || writes_in_flight < WRITES_MAX);
}

/*
 * Hands all prepared entries to the kernel; the number it left behind.  Those lie
 * at the end of the queue.
 */
static uint32_t enter_locked(struct uring *uring)
{
	uint32_t left;
	int err;

	do {
		err = io_uring_submit(&uring->ring);
		left = io_uring_sq_ready(&uring->ring);
	} while (left > 0 && (err > 0 || err == -EINTR));
	if (left == 0)
		return 0;
	if (err == 0 || err == -EAGAIN || err == -EBUSY || err == -ENOMEM)
		return left; /* short of memory: later ones may pass */
	if (uring->state == URING_RUNNING)
		log_warning("%s: io_uring takes no more requests (%s); using pread "
			    "and pwrite", uring->path, strerror(-err));
	uring->state = URING_BROKEN;
	return left;
}

/*
 * Submits up to @count requests, all of which have room; the number taken.  What
 * the kernel left behind cannot be taken out of the queue: it becomes a no-op that
 * belongs to no request.
 */
static uint32_t push_locked(struct uring *uring, struct device_request *requests,
    uint32_t count)
{
	struct io_uring_sqe *sqes[QUEUE_DEPTH];
	uint32_t prepared = 0;
	uint32_t left;

	while (prepared < count && prepared < QUEUE_DEPTH) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

		if (!sqe)
			break;
		prepare(uring, sqe, &requests[prepared]);
		count_locked(uring, &requests[prepared], 1);
		sqes[prepared++] = sqe;
	}
	left = enter_locked(uring);
	for (; left > 0 && prepared > 0; left--) {
		prepared--;
		io_uring_prep_nop(sqes[prepared]);
		io_uring_sqe_set_data(sqes[prepared], NULL);
		count_locked(uring, &requests[prepared], -1);
	}
	return prepared;
}

/* How many of @requests, from the first, have room at once. */
static uint32_t fitting_locked(const struct uring *uring,
    const struct device_request *requests, uint32_t count)
{
	uint32_t total = uring->in_flight;
	uint32_t writes = uring->writes_in_flight;
	uint32_t fitting = 0;

	while (fitting < count && has_room(total, writes, requests[fitting].op)) {
		total++;
		writes += requests[fitting].op == DEVICE_WRITE;
		fitting++;
	}
	return fitting;
}

/* Waiting: leaders and followers */

static void nudge(struct waiter *waiter)
{
	atomic_fetch_or(&waiter->batch->pending, DEVICE_BATCH_NUDGE);
	futex_wake(&waiter->batch->pending, INT_MAX);
}

static void hand_over_locked(struct uring *uring)
{
	mutex_assert_held(&uring->lock);
	if (!uring->has_leader && uring->in_flight > 0 && uring->waiters)
		nudge(uring->waiters);
}

/* Sleeps until the batch is over or something is to be looked at again. */
static void follow_locked(struct uring *uring, struct device_batch *batch, bool wants_room)
{
	struct waiter waiter = {.batch = batch, .wants_room = wants_room};
	struct waiter **link = &uring->waiters;
	uint32_t word;

	while (*link)
		link = &(*link)->next;
	*link = &waiter;
	mutex_unlock(&uring->lock);
	while (!is_over(batch)) {
		word = atomic_load_explicit(&batch->pending, memory_order_relaxed);
		if (word & DEVICE_BATCH_NUDGE)
			break;
		if (word != 0)
			futex_wait(&batch->pending, word);
	}
	mutex_lock(&uring->lock);
	for (link = &uring->waiters; *link != &waiter; link = &(*link)->next)
		;
	*link = waiter.next;
	atomic_fetch_and(&batch->pending, DEVICE_BATCH_COUNT);
}

/* The leader takes answers off the ring; none without @may_block or by a signal. */
static unsigned collect(struct uring *uring, bool may_block, struct answer *answers)
{
	const struct timespec pause = {.tv_nsec = LOST_RING_PAUSE_NS};
	struct io_uring_cqe *cqes[COLLECT_MAX];
	unsigned count = io_uring_peek_batch_cqe(&uring->ring, cqes, COLLECT_MAX);
	int err;

	if (count == 0 && may_block) {
		err = io_uring_wait_cqe(&uring->ring, &cqes[0]);
		/* A filter may forbid the call with requests in flight; their
		 * answers still arrive in the shared ring. */
		if (err < 0 && err != -EINTR)
			nanosleep(&pause, NULL);
		count = io_uring_peek_batch_cqe(&uring->ring, cqes, COLLECT_MAX);
	}
	for (unsigned i = 0; i < count; i++) {
		answers[i].request = io_uring_cqe_get_data(cqes[i]);
		answers[i].result = cqes[i]->res;
	}
	io_uring_cq_advance(&uring->ring, count);
	return count;
}

static void submit_rest(struct uring *uring, struct device_request *request)
{
	uint32_t taken = 0;

	mutex_lock(&uring->lock);
	if (uring->state == URING_RUNNING)
		taken = push_locked(uring, request, 1);
	hand_over_locked(uring);
	mutex_unlock(&uring->lock);
	if (taken == 0)
		device_request_end(request, sync_transfer(uring->fd, request));
}

/* Kernel worker threads die with the thread that submitted: their requests come
 * back cancelled, and are done here. */
static bool is_to_be_tried_again(int err)
{
	return err == -EAGAIN || err == -EINTR || err == -ECANCELED;
}

static void settle(struct uring *uring, struct device_request *request, int result)
{
	if (is_to_be_tried_again(result))
		result = sync_transfer(uring->fd, request);
	else if (result >= 0 && (uint32_t)result == request->bytes - request->done_bytes)
		result = 0;
	else if (result >= (int)DEVICE_ALIGN) {
		/* Short: the rest, from the last whole block on. */
		request->done_bytes += (uint32_t)result - (uint32_t)result % DEVICE_ALIGN;
		submit_rest(uring, request);
		return;
	} else if (result >= 0)
		result = -EIO; /* the file ends here */
	device_request_end(request, result);
}

/*
 * One turn as the leader.  The lock is given up meanwhile and held again at the
 * end; whoever calls this looks again and hands over (invariant 3).
 */
static void lead_locked(struct uring *uring, bool may_block)
{
	struct answer answers[COLLECT_MAX];
	unsigned count;

	ASSERT(!uring->has_leader);
	uring->has_leader = true;
	mutex_unlock(&uring->lock);
	count = collect(uring, may_block, answers);
	mutex_lock(&uring->lock);
	uring->has_leader = false;
	for (unsigned i = 0; i < count; i++)
		if (answers[i].request)
			count_locked(uring, answers[i].request, -1);
	for (struct waiter *waiter = uring->waiters; waiter && count > 0; waiter = waiter->next)
		if (waiter->wants_room)
			nudge(waiter);
	mutex_unlock(&uring->lock);
	for (unsigned i = 0; i < count; i++)
		if (answers[i].request)
			settle(uring, answers[i].request, answers[i].result);
	mutex_lock(&uring->lock);
}

static void wait_for_room_locked(struct uring *uring, enum device_op op)
{
	while (!has_room(uring->in_flight, uring->writes_in_flight, op)) {
		struct device_batch room;

		if (!uring->has_leader) {
			lead_locked(uring, true);
			continue;
		}
		device_batch_init(&room);
		atomic_store(&room.pending, 1);
		follow_locked(uring, &room, true);
	}
}

void uring_submit(struct uring *uring, struct device_request *requests, uint32_t count)
{
	uint32_t first = 0;

	mutex_lock(&uring->lock);
	start_locked(uring);
	while (first < count && uring->state == URING_RUNNING) {
		uint32_t fitting = fitting_locked(uring, &requests[first], count - first);
		uint32_t taken;

		if (fitting == 0) {
			wait_for_room_locked(uring, requests[first].op);
			continue;
		}
		taken = push_locked(uring, &requests[first], fitting);
		first += taken;
		if (taken == 0)
			break;
	}
	hand_over_locked(uring);
	mutex_unlock(&uring->lock);
	for (; first < count; first++)
		device_request_end(&requests[first],
		    sync_transfer(uring->fd, &requests[first]));
}

void uring_wait(struct uring *uring, struct device_batch *batch)
{
	if (is_over(batch))
		return;
	mutex_lock(&uring->lock);
	while (!is_over(batch)) {
		if (!uring->has_leader && uring->in_flight > 0)
			lead_locked(uring, true);
		else
			follow_locked(uring, batch, false);
	}
	hand_over_locked(uring);
	mutex_unlock(&uring->lock);
}

void uring_poll(struct uring *uring)
{
	mutex_lock(&uring->lock);
	if (!uring->has_leader && uring->in_flight > 0)
		lead_locked(uring, false);
	hand_over_locked(uring);
	mutex_unlock(&uring->lock);
}

/* Registered memory */

static void fail_buffers_locked(struct uring *uring, int err)
{
	uring->has_failed_buffer = true;
	log_warning("%s: the kernel does not register the cache's memory (%s%s); "
		    "using plain buffers", uring->path, strerror(-err),
	    err == -ENOMEM ? ": the limit of locked memory?" : "");
}

void uring_register_slab(struct uring *uring, void *base, uint32_t slot_bytes,
    uint32_t slot_count)
{
	int err;

	mutex_lock(&uring->lock);
	err = slab_init(&uring->slab, base, slot_bytes, slot_count);
	if (err < 0)
		fail_buffers_locked(uring, err);
	mutex_unlock(&uring->lock);
}

/* Can buffers be registered now? */
static bool make_table_locked(struct uring *uring)
{
	int err;

	start_locked(uring);
	if (uring->state != URING_RUNNING || uring->has_failed_buffer)
		return false;
	if (uring->has_table)
		return true;
	err = io_uring_register_buffers_sparse(&uring->ring, uring->slab.buffer_count);
	if (err < 0)
		fail_buffers_locked(uring, err);
	uring->has_table = err >= 0;
	return uring->has_table;
}

static void register_run_locked(struct uring *uring, uint32_t first, uint32_t count)
{
	struct iovec iovecs[REGISTER_MAX];
	__u64 tags[REGISTER_MAX] = {0};
	int done;

	for (uint32_t i = 0; i < count; i++) {
		iovecs[i].iov_base = slab_buffer_start(&uring->slab, first + i);
		iovecs[i].iov_len = slab_buffer_bytes(&uring->slab, first + i);
	}
	done = io_uring_register_buffers_update_tag(&uring->ring, first, iovecs, tags, count);
	if (done > 0)
		slab_set_registered(&uring->slab, first, (uint32_t)done);
	if (done < (int)count)
		fail_buffers_locked(uring, done < 0 ? done : -ENOMEM);
}

void uring_register_slots(struct uring *uring, uint32_t first, uint32_t count)
{
	struct slab *slab = &uring->slab;
	bool goes_on;
	uint32_t buffer;
	uint32_t end;
	uint32_t run;

	mutex_lock(&uring->lock);
	ASSERT(first < slab->slot_count && count <= slab->slot_count - first);
	goes_on = make_table_locked(uring);
	if (goes_on)
		slab_fault_in(slab, first, count);
	buffer = slab_buffer_at(slab, first);
	end = slab_buffer_at(slab, first + count - 1) + 1;
	while (goes_on && (run = slab_next_run(slab, &buffer, end, REGISTER_MAX)) > 0) {
		register_run_locked(uring, buffer, run);
		/* Requests go in between: a run takes the kernel a while. */
		mutex_unlock(&uring->lock);
		mutex_lock(&uring->lock);
		goes_on = !uring->has_failed_buffer;
	}
	mutex_unlock(&uring->lock);
}

enum uring_mode uring_mode(struct uring *uring)
{
	enum uring_mode mode;

	mutex_lock(&uring->lock);
	if (uring->state == URING_UNSTARTED)
		mode = URING_MODE_UNSTARTED;
	else if (uring->state == URING_BROKEN)
		mode = URING_MODE_SYNC;
	else if (uring->slab.registered_count == 0)
		mode = URING_MODE_PLAIN;
	else if (uring->has_failed_buffer)
		mode = URING_MODE_PARTLY_REGISTERED;
	else
		mode = URING_MODE_REGISTERED;
	mutex_unlock(&uring->lock);
	return mode;
}

bool uring_destroy(struct uring *uring)
{
	bool had_ring = uring->has_ring;

	mutex_lock(&uring->lock);
	while (uring->in_flight > 0)
		lead_locked(uring, true);
	mutex_unlock(&uring->lock);
	if (uring->has_fixed_file)
		io_uring_unregister_files(&uring->ring);
	if (had_ring)
		io_uring_queue_exit(&uring->ring);
	slab_fini(&uring->slab);
	mutex_fini(&uring->lock);
	free(uring);
	return had_ring;
}
