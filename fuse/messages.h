/* Errors in words: what is wrong with the object, and what to do about it. */
#ifndef HOLTFS_FUSE_MESSAGES_H
#define HOLTFS_FUSE_MESSAGES_H

/* @err: -errno of device_open() or fs_open().  Without the object's name. */
const char *volume_problem(int err);

#endif
