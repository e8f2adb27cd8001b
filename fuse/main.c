/*
 * holtfs, the daemon: its life from command line to exit status.
 *
 *   options -> look at volume and mount point -> background (background.c)
 *     -> open device -> open file system (recovers) -> mount -> greet the kernel
 *     -> threads -> ask the mount for its root -> ready
 *     -> wait: for a signal, or for the mount to go away
 *     -> workers leave -> close file system (last commit) -> exit
 *
 * 1. Everything that fails before "ready" ends the command with a line that names
 *    the object, exit status 1 (2: the command line), and nothing mounted.
 * 2. The file system is closed after the last worker has left: no request meets a
 *    closed file system, however the mount ended.
 * 3. Exit status 0 means that everything received is on the volume.
 *
 * Signals.  SIGTERM, SIGINT and SIGHUP unmount; they are blocked in all threads and
 * taken by the main thread from a descriptor, between anything else it does.  A
 * mount with open files is detached from the tree, requests that have arrived are
 * answered, then the connection is cut.
 *
 * Threads: the main thread, which after the start only waits; the workers
 * (workers.c); those of core/.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "device/device.h"
#include "fuse/background.h"
#include "fuse/daemon.h"
#include "fuse/log.h"
#include "fuse/messages.h"
#include "fuse/mountpoint.h"
#include "fuse/ops.h"
#include "fuse/session.h"
#include "fuse/workers.h"

#include <fuse_lowlevel.h>

#define EXIT_USAGE 2

/* A volume just unmounted is still writing its last commit. */
#define LOCK_WAIT_MS 10000

/* ---- volume ----------------------------------------------------------------- */

static int report_volume(const struct daemon *daemon, int err)
{
	cleanup_free char *where =
	    err == -EBUSY ? mountpoint_of_volume(daemon->volume) : NULL;

	if (where)
		log_error("%s: already mounted, on %s", daemon->volume, where);
	else
		log_error("%s: %s", daemon->volume, volume_problem(err));
	return err;
}

static int resolve_volume(struct daemon *daemon)
{
	struct stat st;
	int err = 0;

	daemon->volume = realpath(daemon->options.volume, NULL);
	if (!daemon->volume || stat(daemon->volume, &st))
		err = -errno;
	else if (S_ISDIR(st.st_mode))
		err = -EISDIR;
	if (err)
		log_error("%s: %s", daemon->options.volume, volume_problem(err));
	return err;
}

static uint32_t lock_wait_ms(const struct daemon *daemon)
{
	cleanup_free char *where = mountpoint_of_volume(daemon->volume);

	return where ? 0 : LOCK_WAIT_MS;
}

/*
 * A 16th of the machine's memory, 256 MiB to 4 GiB.  A tree that fits is written when
 * the journal is half full; one that does not, each time half of the cache has been
 * changed, whole frames for single entries.
 */
static uint64_t default_cache_bytes(void)
{
	uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	memory = max_of(memory / 16, (uint64_t)256 << 20);
	return min_of(memory, (uint64_t)4 << 30);
}

static int open_volume(struct daemon *daemon)
{
	const struct options *options = &daemon->options;
	const struct device_options device_options = {
	    .is_read_only = options->is_read_only,
	    .io = options->io,
	    .lock_wait_ms = lock_wait_ms(daemon),
	};
	const struct fs_options fs_options = {
	    .is_read_only = options->is_read_only,
	    .no_atime = options->has_no_atime,
	    .commit_interval_ms = options->commit_interval_ms,
	    .cache_bytes = options->cache_bytes ? options->cache_bytes : default_cache_bytes(),
	    .has_shared_ring = true,
	};
	struct device *device;
	int err = device_open(daemon->volume, &device_options, &device);

	if (err)
		return report_volume(daemon, err);
	err = fs_open(device, &fs_options, &daemon->fs);
	if (err) {
		device_close(device);
		return report_volume(daemon, err);
	}
	return 0;
}

static int close_volume(struct daemon *daemon)
{
	int err;

	close_listings(daemon);
	err = fs_close(daemon->fs);
	daemon->fs = NULL;
	if (err)
		log_error(
		    "%s: the last commit failed: %s; what was not synced may be lost",
		    daemon->volume, strerror(-err));
	return err;
}

/* ---- mount ------------------------------------------------------------------ */

/* Leaves workers and session for the caller to end. */
static int mount_volume(struct daemon *daemon, dev_t *ret_device)
{
	int err = session_create(daemon, &daemon->session);

	if (!err)
		err = session_mount(daemon->session);
	if (!err)
		err = session_greet(daemon->session);
	if (err)
		return err;
	err = fs_start(daemon->fs);
	if (err)
		return report_volume(daemon, err);
	err = workers_create(daemon, &daemon->workers);
	if (!err)
		err = workers_start(daemon->workers);
	if (err)
		return err;
	err = mountpoint_probe(daemon->mountpoint, ret_device);
	if (err)
		log_error("%s: mounted, but does not answer: %s", daemon->mountpoint,
		    strerror(-err));
	return err;
}

static void end_workers(struct daemon *daemon)
{
	workers_destroy(daemon->workers);
	daemon->workers = NULL;
}

static void wait_for_end(struct daemon *daemon, int signals, dev_t device)
{
	struct pollfd ends[] = {
	    {.fd = signals, .events = POLLIN},
	    {.fd = workers_ended_fd(daemon->workers), .events = POLLIN},
	};

	while (poll(ends, 2, -1) < 0 && errno == EINTR)
		;
	if (ends[1].revents)
		return;
	log_info("%s: unmounting on a signal", daemon->mountpoint);
	mountpoint_detach(daemon->mountpoint, device);
	workers_stop(daemon->workers);
	end_workers(daemon);
	session_disconnect(daemon->session);
}

static int serve(struct daemon *daemon, int signals, int ready_fd)
{
	dev_t device;
	int err = mount_volume(daemon, &device);

	if (!err) {
		mountpoint_raise_readahead(device);
		log_info("%s: mounted on %s, %s%s", daemon->volume,
		    daemon->mountpoint, fs_describe_io(daemon->fs),
		    daemon->options.is_read_only ? ", read-only" : "");
		if (ready_fd >= 0)
			background_ready(ready_fd);
		wait_for_end(daemon, signals, device);
	} else if (daemon->workers) {
		workers_stop(daemon->workers);
	}
	end_workers(daemon);
	session_destroy(daemon->session);
	return err;
}

/* ---- process ---------------------------------------------------------------- */

/* Blocks what the main thread takes by descriptor, before there are threads. */
static int watch_signals(void)
{
	sigset_t mask;
	int fd;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &mask, NULL))
		return -errno;
	fd = signalfd(-1, &mask, SFD_CLOEXEC);
	sigaddset(&mask, WORKERS_KICK_SIGNAL); /* for workers only */
	if (fd < 0 || sigprocmask(SIG_BLOCK, &mask, NULL))
		return -errno;
	return fd;
}

static int run(struct daemon *daemon, int ready_fd)
{
	cleanup_fd int signals = watch_signals();
	int err, close_err;

	if (signals < 0) {
		log_error("watching signals failed: %s", strerror(-signals));
		return signals;
	}
	/* Memory for our own I/O must not be freed by writing to ourselves.  Only
	 * root may ask; without it a full machine can stall longer. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	err = open_volume(daemon);
	if (err)
		return err;
	err = serve(daemon, signals, ready_fd);
	close_err = close_volume(daemon);
	if (!err && !close_err)
		log_info("%s: unmounted", daemon->volume);
	return err ? err : close_err;
}

static int start(struct daemon *daemon)
{
	int ready_fd = -1;
	int err;

	log_start(daemon->options.is_debug	  ? LOG_LEVEL_DEBUG
		  : daemon->options.is_foreground ? LOG_LEVEL_INFO
						  : LOG_LEVEL_WARNING);
	err = resolve_volume(daemon);
	if (!err)
		err = mountpoint_resolve(
		    daemon->options.mountpoint, &daemon->mountpoint);
	if (!err)
		err = mountpoint_check(
		    daemon->mountpoint, daemon->options.has_allow_other);
	if (err)
		return err;
	if (!daemon->options.is_foreground) {
		ready_fd = background_enter();
		if (ready_fd < 0) {
			log_error("going to the background failed: %s",
			    strerror(-ready_fd));
			return ready_fd;
		}
	}
	return run(daemon, ready_fd);
}

static int print_version(void)
{
	printf("holtfs %s (libfuse %s)\n", PACKAGE_VERSION, fuse_pkgversion());
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int print_help(void)
{
	fputs(options_usage, stdout);
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct daemon daemon = {.volume = NULL};
	char message[256];
	int err =
	    options_parse(argc, argv, &daemon.options, message, sizeof(message));
	int status;

	mutex_init(&daemon.lock, RANK_DAEMON);
	if (err) {
		fprintf(stderr, "holtfs: %s\nTry 'holtfs --help'.\n",
		    err == -EINVAL ? message : strerror(-err));
		status = EXIT_USAGE;
	} else if (daemon.options.wants_help) {
		status = print_help();
	} else if (daemon.options.wants_version) {
		status = print_version();
	} else {
		status = start(&daemon) ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	mutex_fini(&daemon.lock);
	options_fini(&daemon.options);
	free(daemon.volume);
	free(daemon.mountpoint);
	return status;
}
