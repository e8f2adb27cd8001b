/*
 * Operations of the model as calls of holt.h, and what they have to answer.
 */
#ifndef HOLTFS_TESTS_HOLT_CALLS_H
#define HOLTFS_TESTS_HOLT_CALLS_H

#include "tests/model/holt_model.h"

/* The bytes of a value: the number, then zeros, 1 KiB of them for each unit of its highest
 * byte.  Valid until the next call. */
#define VALUE_BYTES_MAX (sizeof(uint64_t) + 127u * 1024)
const void *value_bytes(uint64_t value, size_t *ret_bytes);

/* As a call of its own; kinds that need a batch are not for it. */
int op_call(struct holt *holt, const struct op *op);
void op_add(struct holt_batch *batch, const struct op *op);

/* What the call answers; the model has changed if it is 0. */
int model_call(struct model *model, const struct op *op);

/* What a batch answers, and which operation of it; the model's next state in @ret. */
int model_batch(const struct model *model, const struct op *ops, uint32_t count,
    struct model *ret, size_t *ret_failed);

#endif
