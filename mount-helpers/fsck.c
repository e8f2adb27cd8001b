/*
 * fsck.holtfs: looks at every structure of a volume and says what is wrong.
 *
 * The walk is core/check's; this is its front: options as fsck(8) passes them, one
 * line a finding, a summary, fsck(8)'s exit codes.  Nothing is ever written to the
 * volume, so being stopped at any time is harmless.
 *
 * What asks for repair (-p, -a, -y) is accepted, because fsck(8) and boot scripts
 * pass it, and answered with a check: damage that is found stays, and is reported
 * as such (exit code 4).
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check/check.h"
#include "device/device.h"
#include "mount-helpers/cli.h"
#include "mount-helpers/volume.h"

/* fsck(8) */
enum fsck_exit {
	FSCK_OK = 0,
	FSCK_UNCORRECTED = 4,
	FSCK_OPERATIONAL = 8,
	FSCK_USAGE = 16,
	FSCK_CANCELLED = 32,
};

static const struct cli_program program = {
    .name = "fsck.holtfs",
    .synopsis = "[-n | -p | -y] [-f] [-q | -v] [--data] VOLUME",
    .help =
	"Checks the holtfs file system in the file or block device VOLUME, which must\n"
	"not be mounted.  Nothing is changed: this version finds damage, it does not\n"
	"repair it.\n"
	"\n"
	"  -n, --no-changes   check only; what happens without options too\n"
	"  -p, -a, -y         accepted for fsck(8): check, and report damage as left\n"
	"  -f, --force        accepted for fsck(8): every check is a full one\n"
	"      --data         read all file data and verify its checksums\n"
	"  -q, --quiet        print nothing unless something is wrong\n"
	"  -v, --verbose      print what was counted\n"
	"  -V, --version      print the version\n"
	"  -h, --help         print this help\n"
	"\n"
	"Exit code: 0 nothing wrong, 4 damage found, 8 the check could not be done,\n"
	"16 wrong usage, 32 cancelled.\n",
    .usage_exit = FSCK_USAGE,
};

struct fsck_options {
	char mode; /* 0, or the last letter given of n, p, y; a counts as p */
	bool with_data;
	bool is_quiet;
	bool is_verbose;
	const char *path;
};

#define OPTION_DATA 256

/* -n, -p and -y exclude each other. */
static int set_mode(struct fsck_options *options, char mode)
{
	if (mode == 'a')
		mode = 'p';
	if (options->mode && options->mode != mode)
		return cli_usage("only one of -n, -p (or -a) and -y may be given");
	options->mode = mode;
	return 0;
}

/* Help and version end the program here; otherwise 0 or an exit code. */
static int parse_option(int option, struct fsck_options *options)
{
	switch (option) {
	case 'n':
	case 'p':
	case 'a':
	case 'y':
		return set_mode(options, (char)option);
	case 'f':
		return 0;
	case OPTION_DATA:
		options->with_data = true;
		return 0;
	case 'q':
		options->is_quiet = true;
		return 0;
	case 'v':
		options->is_verbose = true;
		return 0;
	case 'V':
		exit(cli_print_version() ? FSCK_OPERATIONAL : FSCK_OK);
	case 'h':
		exit(cli_print_help() ? FSCK_OPERATIONAL : FSCK_OK);
	default:
		return cli_usage("cannot understand the options");
	}
}

static int parse_options(int argc, char **argv, struct fsck_options *options)
{
	static const struct option names[] = {
	    {"no-changes", no_argument, NULL, 'n'},
	    {"force", no_argument, NULL, 'f'},
	    {"data", no_argument, NULL, OPTION_DATA},
	    {"quiet", no_argument, NULL, 'q'},
	    {"verbose", no_argument, NULL, 'v'},
	    {"version", no_argument, NULL, 'V'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	int option, code;

	while ((option = getopt_long(argc, argv, "npayfqvVh", names, NULL)) != -1) {
		code = parse_option(option, options);
		if (code)
			return code;
	}
	if (options->is_quiet && options->is_verbose)
		return cli_usage("-q and -v exclude each other");
	if (argc - optind != 1)
		return cli_usage(argc == optind ? "no volume named"
						: "more than one volume named");
	options->path = argv[optind];
	return 0;
}

/* Nothing is written, so nothing has to be put in order. */
static void cancel(int signal_number)
{
	static const char text[] = "fsck.holtfs: cancelled\n";
	ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)written;
	_exit(FSCK_CANCELLED);
}

static void catch_signals(void)
{
	struct sigaction action = {.sa_handler = cancel};

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

static void report(void *ctx, enum check_severity severity, const char *what)
{
	static const char *const words[] = {
	    [CHECK_DAMAGE] = "damage",
	    [CHECK_LEAK] = "leak",
	    [CHECK_NOTE] = "note",
	};
	const struct fsck_options *options = ctx;

	if (severity == CHECK_NOTE && options->is_quiet)
		return;
	printf("%s: %s: %s\n", options->path, words[severity], what);
}

static void print_counts(const struct check_totals *totals)
{
	char data[CLI_SIZE_TEXT], used[CLI_SIZE_TEXT];

	cli_format_size(totals->data_bytes, data);
	cli_format_size(totals->used_blocks * DEVICE_ALIGN, used);
	printf("  files        %" PRIu64 " (%s of data)\n", totals->files, data);
	printf("  directories  %" PRIu64 "\n", totals->directories);
	printf("  symlinks     %" PRIu64 "\n", totals->symlinks);
	printf("  others       %" PRIu64 "\n", totals->others);
	printf("  orphans      %" PRIu64 "\n", totals->orphans);
	printf("  extents      %" PRIu64 "\n", totals->extents);
	printf("  keys         %" PRIu64 " in %" PRIu64 " tree frames, %.0f %% full\n",
	    totals->keys, totals->tree_frames, totals->average_fill * 100);
	printf("  in use       %s\n", used);
}

/* Who asked for repairs hears that there are none. */
static void answer_repair(const struct fsck_options *options)
{
	if (options->mode == 'p' || options->mode == 'y')
		cli_error("%s: this version cannot repair; copy out what is readable",
		    options->path);
}

static void print_summary(const struct fsck_options *options, const struct check_totals *totals)
{
	bool is_clean = !totals->damages && !totals->leaks;

	if (is_clean && options->is_quiet)
		return;
	if (is_clean)
		printf("%s: clean, %" PRIu64 " files, %" PRIu64 " directories%s\n",
		    options->path, totals->files, totals->directories,
		    options->with_data ? ", all data verified" : "");
	else
		printf("%s: %" PRIu64 " damaged, %" PRIu64 " leaked; nothing was changed\n",
		    options->path, totals->damages, totals->leaks);
	if (options->is_verbose)
		print_counts(totals);
	if (!is_clean)
		answer_repair(options);
}

/* -EUCLEAN is an answer (too damaged to walk), the rest are failures to ask. */
static int exit_for_failure(const struct fsck_options *options, int err)
{
	if (err == -EUCLEAN) {
		cli_error("%s: too damaged to be checked further", options->path);
		answer_repair(options);
		return FSCK_UNCORRECTED;
	}
	cli_error("%s: not checked: %s", options->path, volume_explain(err));
	return FSCK_OPERATIONAL;
}

int main(int argc, char **argv)
{
	struct fsck_options options = {0};
	struct check_options check = {.report = report, .ctx = &options};
	struct check_totals totals = {0};
	struct device *device;
	int err;

	cli_begin(&program);
	err = parse_options(argc, argv, &options);
	if (err)
		return err;
	cli_set_verbose(options.is_verbose);
	catch_signals();
	if (volume_open_for_check(options.path, &device))
		return FSCK_OPERATIONAL;
	check.with_data = options.with_data;
	err = check_volume(device, &check, &totals);
	if (err)
		return exit_for_failure(&options, err);
	print_summary(&options, &totals);
	if (cli_finish_output()) {
		cli_error("cannot write the result");
		return FSCK_OPERATIONAL;
	}
	return totals.damages || totals.leaks ? FSCK_UNCORRECTED : FSCK_OK;
}
