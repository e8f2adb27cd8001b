/*
 * The descriptors of /dev/fuse under one session: a clone for each worker where the
 * kernel and libfuse have them, and INIT flags that libfuse does not know to send.
 */
#ifndef HOLTFS_FUSE_CHANNEL_H
#define HOLTFS_FUSE_CHANNEL_H

#include <stdbool.h>

struct fuse_session;

/* Puts itself between libfuse and the mounted session's descriptor.  False: this
 * libfuse does not let us; then every thread uses that one descriptor. */
bool channel_attach(struct fuse_session *fuse);

/* A further descriptor of @master's connection, or -errno. */
int channel_clone(int master);

/* From now on the calling thread's requests and replies go by @fd; -1: the
 * session's own.  A reply must leave where its request came in. */
void channel_use(int fd);

#endif
