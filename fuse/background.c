/*
 * Into the background.
 *
 *   parent                        child
 *   fork ------------------------> open volume, recover, mount, threads
 *   read(pipe) .................   errors go to the standard error of both
 *        |                         mount answers: leave terminal and directory
 *        |<------- one byte -----  ready
 *   exit 0                         serve
 *
 * The child that fails just exits: the pipe ends, and the parent passes its exit
 * status on.  The fork comes first because rings, threads and locks do not survive
 * one.  Until it is ready the child stays in the caller's session, so that Ctrl-C
 * reaches it too.
 */
#include "config.h"

#include "fuse/background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuse/log.h"

static _Noreturn void wait_for_child(pid_t pid, int fd)
{
	uint8_t byte;
	ssize_t bytes;
	int status;

	do
		bytes = read(fd, &byte, 1);
	while (bytes < 0 && errno == EINTR);
	if (bytes == 1)
		_exit(EXIT_SUCCESS);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			_exit(EXIT_FAILURE);
	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
	log_error("the daemon died of signal %d (%s) before the mount was ready",
	    WTERMSIG(status), strsignal(WTERMSIG(status)));
	_exit(EXIT_FAILURE);
}

int background_enter(void)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid > 0) {
		close(ends[1]);
		wait_for_child(pid, ends[0]);
	}
	close(ends[0]);
	if (pid == 0)
		return ends[1];
	close(ends[1]);
	return -errno;
}

void background_ready(int fd)
{
	const uint8_t byte = 1;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	log_to_syslog();
	setsid();
	if (chdir("/"))
		log_warning(
		    "leaving the working directory failed: %s", strerror(errno));
	for (int stream = 0; null >= 0 && stream <= STDERR_FILENO; stream++)
		dup2(null, stream);
	if (null > STDERR_FILENO)
		close(null);
	if (write(fd, &byte, 1) != 1)
		log_warning("whoever started the mount no longer waits for it");
	close(fd);
}
