/*
 * Errors in words.  An errno names a fact about a system call; the user wants to
 * know about the volume, and what to do.
 */
#include "config.h"

#include "fuse/messages.h"

#include <errno.h>
#include <string.h>

const char *volume_problem(int err)
{
	switch (-err) {
	case ENOENT:
		return "no such file; mkfs.holtfs -s SIZE makes a volume";
	case EMEDIUMTYPE:
		return "not a holtfs volume; mkfs.holtfs makes one";
	case EPROTONOSUPPORT:
		return "of a format version or with a feature that this holtfs "
		       "does not know; use a newer holtfs";
	case EUCLEAN:
		return "damaged; run fsck.holtfs on it";
	case EBUSY:
		return "in use, by another mount or program";
	case EROFS:
		return "can only be read; mount it with -o ro";
	case EINVAL:
		return "not a holtfs volume: neither a file nor a block device, "
		       "or too small for one";
	case EISDIR:
		return "a directory, not a volume; the volume comes first, then "
		       "the mount point";
	case EACCES:
	case EPERM:
		return "permission denied; reading and writing it must be allowed "
		       "(with -o ro: reading)";
	case ENOMEM:
		return "not enough memory; a smaller -o cache= may help";
	case EIO:
		return "cannot be read: I/O error; see the kernel log";
	case ENOSYS:
	case EOPNOTSUPP:
		return "io_uring is not available here; leave out -o io=uring";
	default:
		return strerror(-err);
	}
}
