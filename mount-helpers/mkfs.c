/*
 * mkfs.holtfs: makes an empty file system in a file or on a block device.
 *
 * All refusals come before the first change (volume.c).  Superblocks are written
 * last, so a mkfs that is cut short leaves no volume; a file that it created and
 * could not finish is removed again.
 */
#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "device/device.h"
#include "format/format.h"
#include "fs/fs.h"
#include "mount-helpers/cli.h"
#include "mount-helpers/volume.h"

static const struct cli_program program = {
    .name = "mkfs.holtfs",
    .synopsis = "[-s SIZE] [-L LABEL] [-f] [-q] [-V] VOLUME",
    .help =
	"Makes an empty holtfs file system in the file or block device VOLUME.\n"
	"A file that does not exist is created, sparse.\n"
	"\n"
	"  -s, --size=SIZE    size of the file; K, M, G and T are powers of 1024\n"
	"  -L, --label=LABEL  name of the volume, at most 63 bytes\n"
	"  -f, --force        format although VOLUME holds data or seems to be used\n"
	"  -q, --quiet        no summary\n"
	"  -V, --version      print the version\n"
	"  -h, --help         print this help\n"
	"\n"
	"Exit code: 0 done, 1 not done.\n"
	"Example: mkfs.holtfs -s 10G data.holt\n",
    .usage_exit = EXIT_FAILURE,
};

struct mkfs_options {
	uint64_t bytes; /* 0: as large as VOLUME is */
	const char *label;
	const char *path;
	bool is_forced;
	bool is_quiet;
};

static int parse_size(const char *text, uint64_t *ret_bytes)
{
	int err = cli_parse_size(text, ret_bytes);

	if (err || *ret_bytes == 0)
		return cli_usage("'%s' is not a size; a size is a number with K, M, G or T, such as 10G",
		    text);
	return 0;
}

static int parse_label(const char *text, const char **ret_label)
{
	if (strlen(text) >= LABEL_BYTES)
		return cli_usage("the label has %zu bytes; at most %d are possible",
		    strlen(text), LABEL_BYTES - 1);
	*ret_label = text;
	return 0;
}

/* Help and version end the program here; otherwise 0 or an exit code. */
static int parse_options(int argc, char **argv, struct mkfs_options *options)
{
	static const struct option names[] = {
	    {"size", required_argument, NULL, 's'},
	    {"label", required_argument, NULL, 'L'},
	    {"force", no_argument, NULL, 'f'},
	    {"quiet", no_argument, NULL, 'q'},
	    {"version", no_argument, NULL, 'V'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	int option, code = 0;

	while (!code && (option = getopt_long(argc, argv, "s:L:fqVh", names, NULL)) != -1) {
		switch (option) {
		case 's':
			code = parse_size(optarg, &options->bytes);
			break;
		case 'L':
			code = parse_label(optarg, &options->label);
			break;
		case 'f':
			options->is_forced = true;
			break;
		case 'q':
			options->is_quiet = true;
			break;
		case 'V':
			exit(cli_print_version());
		case 'h':
			exit(cli_print_help());
		default:
			return cli_usage("cannot understand the options");
		}
	}
	if (code)
		return code;
	if (argc - optind != 1)
		return cli_usage(argc == optind ? "no volume named"
						: "more than one volume named");
	options->path = argv[optind];
	return 0;
}

static int format(struct device *device, const struct mkfs_options *options,
    struct fs_format_options *format_options)
{
	uuid_generate(format_options->uuid);
	strcpy(format_options->label, options->label); /* length checked */
	/* Who makes a volume may write to it. */
	format_options->root_uid = geteuid();
	format_options->root_gid = getegid();
	return fs_format(device, format_options);
}

static int print_summary(const struct volume *volume, const struct fs_format_options *format)
{
	char size[CLI_SIZE_TEXT], uuid[UUID_STR_LEN];

	cli_format_size(volume->bytes, size);
	uuid_unparse_lower(format->uuid, uuid);
	printf("%s: holtfs volume of %s, UUID %s%s%s%s\n", volume->path, size, uuid,
	    *format->label ? ", label \"" : "", format->label,
	    *format->label ? "\"" : "");
	return cli_finish_output();
}

int main(int argc, char **argv)
{
	struct mkfs_options options = {.label = ""};
	struct fs_format_options format_options = {0};
	struct volume volume;
	struct device *device;
	int err;

	cli_begin(&program);
	err = parse_options(argc, argv, &options);
	if (err)
		return err;
	if (volume_prepare(options.path, options.bytes, options.is_forced, &volume, &device))
		return EXIT_FAILURE;
	err = format(device, &options, &format_options);
	device_close(device);
	if (err) {
		cli_error("%s: not formatted: %s", options.path, volume_explain(err));
		volume_discard(&volume);
		return EXIT_FAILURE;
	}
	if (volume_sync_name(&volume))
		return EXIT_FAILURE;
	if (!options.is_quiet && print_summary(&volume, &format_options))
		return EXIT_FAILURE;
	return EXIT_SUCCESS;
}
