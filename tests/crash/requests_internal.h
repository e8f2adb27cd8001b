/*
 * What requests.c and requests_data.c share.  Between request_begin() and
 * request_end() lies one call of the file layer and what the history makes of it.
 */
#ifndef HOLTFS_TESTS_REQUESTS_INTERNAL_H
#define HOLTFS_TESTS_REQUESTS_INTERNAL_H

#include "tests/crash/requests.h"

void request_begin(struct requests *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Remembers the first error; true: there is one. */
bool request_failed(struct requests *r, int err);

/* @a, @b and @c (or -1) are nodes that it changed. */
void request_end(struct requests *r, bool is_sync, int a, int b, int c);

uint64_t requests_below(struct requests *r, uint64_t end);
struct node *requests_node(struct requests *r, int n);
struct version *requests_now(struct requests *r, int n);

/* Makes the node known to us, so that its number may be used. */
uint64_t requests_know(struct requests *r, int n);

/* A node of the type (0: any); -1: none found. */
int requests_pick(struct requests *r, uint32_t type, bool is_linked);

int requests_make(struct requests *r, int dir, const char *name, uint32_t mode, const char *target);
void requests_rename(struct requests *r, int n, int to, const char *name);

/* ---- requests_data.c ------------------------------------------------------- */

/* Bytes that are never zero and tell the request that wrote them. */
uint8_t *requests_data(struct requests *r, uint64_t bytes);

/* The request put the file's record into the log, as it is now; all its data too. */
void requests_note_put(struct requests *r, int n);
void requests_note_recorded(struct requests *r, int n);

void requests_write(struct requests *r, int n, uint64_t offset, uint64_t bytes, bool is_append,
    bool is_sync);
void requests_do_write(struct requests *r);
void requests_do_truncate(struct requests *r);
void requests_do_fallocate(struct requests *r);
void requests_do_replace(struct requests *r);

#endif
