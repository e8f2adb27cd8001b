/*
 * A log with known content, for the journal's tests.
 *
 * Records are numbered from 0.  A record's number decides its length and bytes, so
 * what is read back needs to be compared with a number only.
 */
#ifndef HOLTFS_TESTS_UNIT_JOURNAL_MODEL_H
#define HOLTFS_TESTS_UNIT_JOURNAL_MODEL_H

#include <check.h>

#include "device/device.h"
#include "device/device_test.h"
#include "journal/journal.h"

#define MODEL_BODY_MAX 20000u
#define MODEL_OFFSET FRAME_BYTES /* of the journal on the device */

struct model {
	struct journal_options options;
	struct journal *journal;
	uint64_t next; /* record to append */
};

struct model_position {
	lsn_t lsn, end;
};

/* A journal of @log_bytes from LSN @start on a new memory device. */
void model_open(struct model *model, uint64_t log_bytes, lsn_t start);

/* Like it, on @device and with a shared ring. */
void model_open_shared(struct model *model, struct device *device,
    uint64_t log_bytes, lsn_t start);

void model_reopen(struct model *model, lsn_t start);
void model_close(struct model *model, bool is_clean);

/* The device too. */
void model_destroy(struct model *model);

/* Appends the next record.  The other returns -EAGAIN or 0. */
struct model_position model_append(struct model *model);
int model_try_append(struct model *model, struct model_position *ret);

/* The next @count records, made durable. */
void model_append_and_sync(struct model *model, unsigned count);

/* A record of exactly @body_bytes zeros, outside the numbering. */
struct model_position model_append_zeros(struct model *model, uint32_t body_bytes);

uint32_t model_body_bytes(uint64_t number);

/*
 * Reads from @from: records must be @first, @first + 1, ...  Returns how many there
 * are, with the end in @ret_end (may be NULL).
 */
uint64_t model_read(struct model *model, lsn_t from, uint64_t first, lsn_t *ret_end);

/* journal_read() with a visitor that takes anything; counts BATCH records. */
int model_read_any(const struct journal_place *place, lsn_t from, uint64_t open_id,
    uint64_t *ret_count, lsn_t *ret_end);

/* The whole log's bytes, to look at and to put back. */
uint8_t *model_copy_log(struct model *model);
void model_write_log(struct model *model, const uint8_t *bytes);

/* Inverts a byte of the log on disk. */
void model_damage(struct model *model, lsn_t lsn);

TCase *damage_tests(void);
TCase *ring_tests(void);
TCase *thread_tests(void);

#endif
