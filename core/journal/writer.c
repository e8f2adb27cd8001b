/*
 * The writer: a thread that writes blocks out when half of the ring is full.
 *
 * Without it an append that finds the ring full writes out itself, and all others wait
 * for that, some milliseconds each time.  With it appends fill one half while the other
 * is being written, and meet a full ring only where they are faster than the device.
 *
 * Who calls the writer says so in `writer_state` and wakes it; it says that it sleeps
 * again when it has written what there was.  Each append looks, so none need be sure
 * that the one before was heard.
 */
#include "config.h"

#include "journal/journal_internal.h"

#include "base/bytes.h"
#include "base/futex.h"

/* False: it is to end. */
static bool sleep_until_called(struct journal *journal)
{
	uint32_t state = WRITER_CALLED;

	if (atomic_compare_exchange_strong(&journal->writer_state, &state, WRITER_SLEEPS))
		state = WRITER_SLEEPS;
	while (state == WRITER_SLEEPS) {
		futex_wait(&journal->writer_state, WRITER_SLEEPS);
		state = atomic_load(&journal->writer_state);
	}
	return state != WRITER_ENDS;
}

static void *write_ahead(void *ctx)
{
	struct journal *journal = ctx;

	/* After an error there is nothing left to do: it stays called, and nobody calls. */
	while (sleep_until_called(journal) && !journal_error(journal))
		journal_write_out(journal, round_down(journal_end(journal), BLOCK_BYTES));
	return NULL;
}

int journal_start_writer(struct journal *journal)
{
	int err;

	atomic_store(&journal->writer_state, WRITER_CALLED);
	err = pthread_create(&journal->writer, NULL, write_ahead, journal);
	if (err)
		atomic_store(&journal->writer_state, WRITER_NONE);
	return -err;
}

void journal_wake_writer(struct journal *journal)
{
	uint32_t state = WRITER_SLEEPS;

	if (atomic_compare_exchange_strong(&journal->writer_state, &state, WRITER_CALLED))
		futex_wake(&journal->writer_state, 1);
}

void journal_stop_writer(struct journal *journal)
{
	if (atomic_load(&journal->writer_state) == WRITER_NONE)
		return;
	atomic_store(&journal->writer_state, WRITER_ENDS);
	futex_wake(&journal->writer_state, 1);
	pthread_join(journal->writer, NULL);
	atomic_store(&journal->writer_state, WRITER_NONE);
}
