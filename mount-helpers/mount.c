/*
 * mount.holtfs: what mount(8) runs for "mount -t holtfs VOLUME DIRECTORY" and for
 * lines of fstab.  It turns mount(8)'s options into the daemon's and becomes the
 * daemon, which goes to the background by itself once the mount answers.
 *
 * Options fall into three kinds:
 *
 *   dropped  they speak to mount(8), to systemd or to the reader of fstab (noauto,
 *            nofail, user, x-*), or name what FUSE decides by itself (lazytime)
 *   remount  nothing to mount: handed back to mount(8) as "mount -i", which asks the
 *            kernel alone; a second daemon would only find the volume in use
 *   passed   everything else
 *
 * The daemon is found along PATH and then where it was installed.  mount(8) hands on
 * no PATH, so for it the first means /bin and /usr/bin.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "mount-helpers/cli.h"

/* mount(8) */
enum mount_exit {
	MOUNT_OK = 0,
	MOUNT_USAGE = 1,
	MOUNT_SYSTEM = 2,
};

static const struct cli_program program = {
    .name = "mount.holtfs",
    .synopsis = "VOLUME DIRECTORY [-sfnv] [-o OPTIONS]",
    .help =
	"Mounts a holtfs volume; mount(8) runs this for \"mount -t holtfs\".  OPTIONS are\n"
	"those of holtfs(8); what mount(8) and fstab(5) add for themselves is left out.\n"
	"\n"
	"  -o OPTIONS         mount options, comma separated; may be repeated\n"
	"  -f                 do everything but mount\n"
	"  -v                 print the command that is run\n"
	"  -s, -n             accepted for mount(8)\n"
	"  -t TYPE            accepted for mount(8)\n"
	"  -V, --version      print the version\n"
	"  -h, --help         print this help\n"
	"\n"
	"Exit code: that of holtfs(8); 1 wrong usage, 2 holtfs could not be run.\n",
    .usage_exit = MOUNT_USAGE,
};

struct mount_options {
	const char *volume;
	const char *directory;
	char *passed;	 /* options for the daemon, comma separated; may be empty */
	bool is_remount; /* "remount" was among them */
	bool is_fake;
	bool is_verbose;
};

static bool is_dropped(const char *name, size_t len)
{
	static const char *const dropped[] = {
	    "defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser",
	    "users", "nousers", "owner", "noowner", "group", "nogroup",
	    "strictatime", "lazytime", "nolazytime", "silent", "loud",
	    "iversion", "noiversion", "mand", "nomand",
	};

	for (size_t i = 0; i < ARRAY_COUNT(dropped); i++)
		if (strlen(dropped[i]) == len && memcmp(dropped[i], name, len) == 0)
			return true;
	return (len >= 2 && (memcmp(name, "x-", 2) == 0 || memcmp(name, "X-", 2) == 0)) ||
	       (len >= 8 && memcmp(name, "comment=", 8) == 0);
}

/* Adds @len bytes as one option to the list; the list was made large enough. */
static void append_option(char *list, const char *name, size_t len)
{
	size_t have = strlen(list);

	if (have)
		list[have++] = ',';
	memcpy(list + have, name, len);
	list[have + len] = '\0';
}

/* Sorts the comma separated @text into @options. */
static int take_options(struct mount_options *options, const char *text)
{
	size_t have = options->passed ? strlen(options->passed) : 0;
	char *list = realloc(options->passed, have + strlen(text) + 2);

	if (!list)
		return -ENOMEM;
	list[have] = '\0';
	options->passed = list;
	while (*text) {
		size_t len = strcspn(text, ",");

		if (len == strlen("remount") && memcmp(text, "remount", len) == 0)
			options->is_remount = true;
		else if (len && !is_dropped(text, len))
			append_option(list, text, len);
		text += len + (text[len] == ',');
	}
	return 0;
}

static int parse_option(int option, struct mount_options *options)
{
	switch (option) {
	case 'o':
		if (take_options(options, optarg))
			return cli_usage("out of memory");
		return 0;
	case 'f':
		options->is_fake = true;
		return 0;
	case 'v':
		options->is_verbose = true;
		return 0;
	case 's':
	case 'n':
	case 't':
		return 0;
	case 'N':
		return cli_usage("-N: mounting into another namespace is not possible; use nsenter(1)");
	case 'V':
		exit(cli_print_version() ? MOUNT_SYSTEM : MOUNT_OK);
	case 'h':
		exit(cli_print_help() ? MOUNT_SYSTEM : MOUNT_OK);
	default:
		return cli_usage("cannot understand the options");
	}
}

/* Help and version end the program here; otherwise 0 or an exit code. */
static int parse_options(int argc, char **argv, struct mount_options *options)
{
	static const struct option names[] = {
	    {"version", no_argument, NULL, 'V'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	int option, code;

	while ((option = getopt_long(argc, argv, "o:sfnvt:N:Vh", names, NULL)) != -1) {
		code = parse_option(option, options);
		if (code)
			return code;
	}
	if (argc - optind != 2)
		return cli_usage("a volume and a directory are needed");
	options->volume = argv[optind];
	options->directory = argv[optind + 1];
	return 0;
}

static void print_command(char *const *command)
{
	for (; *command; command++)
		fprintf(stderr, "%s%s", *command, command[1] ? " " : "\n");
}

/* Becomes the daemon; returns only when that failed. */
static int run_daemon(const struct mount_options *options)
{
	static const char installed[] = BINDIR "/holtfs";
	const char *passed = options->passed ? options->passed : "";
	char *command[] = {
	    (char *)"holtfs",
	    (char *)options->volume,
	    (char *)options->directory,
	    *passed ? (char *)"-o" : NULL,
	    (char *)passed,
	    NULL,
	};

	if (options->is_verbose)
		print_command(command);
	if (options->is_fake)
		return MOUNT_OK;
	execvp(command[0], command);
	if (errno == ENOENT)
		execv(installed, command);
	cli_error("cannot run holtfs: %s", strerror(errno));
	return MOUNT_SYSTEM;
}

/* Flags of a mount that exists are the kernel's; -i keeps mount(8) from asking us. */
static int run_remount(const struct mount_options *options)
{
	const char *passed = options->passed ? options->passed : "";
	cleanup_free char *flags = NULL;
	char *command[] = {
	    (char *)"mount", (char *)"-i", (char *)"-o", NULL,
	    (char *)options->directory, NULL,
	};

	if (asprintf(&flags, "remount%s%s", *passed ? "," : "", passed) < 0) {
		flags = NULL;
		cli_error("out of memory");
		return MOUNT_SYSTEM;
	}
	command[3] = flags;
	if (options->is_verbose)
		print_command(command);
	if (options->is_fake)
		return MOUNT_OK;
	execvp(command[0], command);
	cli_error("cannot run mount: %s", strerror(errno));
	return MOUNT_SYSTEM;
}

int main(int argc, char **argv)
{
	struct mount_options options = {0};
	int code;

	cli_begin(&program);
	code = parse_options(argc, argv, &options);
	if (!code)
		code = options.is_remount ? run_remount(&options) : run_daemon(&options);
	free(options.passed);
	return code;
}
