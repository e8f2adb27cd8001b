/*
 * holtctl: looks into stores and works on them while nobody else has them open.
 *
 * All commands share one table of options; each command names those it takes.  Volumes
 * are reached through the public interface of the engine, holt.h, but for `check`.
 */
#include "config.h"

#include "mount-helpers/holtctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "mount-helpers/cli.h"

static const struct cli_program program = {
    .name = "holtctl",
    .synopsis = "COMMAND [OPTION]... VOLUME [ARGUMENT]...",
    .help =
	"Looks into holt stores and works on them while they are not in use.\n"
	"\n"
	"  create VOLUME         make an empty store: --size=SIZE --label=LABEL\n"
	"  get VOLUME KEY        print a value: --raw\n"
	"  put VOLUME KEY VALUE  store a value: --stdin --if-absent --if-version=N\n"
	"  del VOLUME KEY...     delete keys: --if-version=N\n"
	"  ls VOLUME             list keys: --prefix=KEY --delimiter=BYTE\n"
	"                        --start-after=KEY --limit=N --long\n"
	"  dump VOLUME           print all items for load: --prefix=KEY\n"
	"  load VOLUME           put what dump printed, from standard input\n"
	"  stats VOLUME          sizes and counters: --prometheus\n"
	"  check VOLUME          verify every structure; changes nothing\n"
	"  compact VOLUME        give space back: --prefix=KEY\n"
	"  checkpoint VOLUME     write out what the journal holds\n"
	"\n"
	"  -j, --json       one JSON object a line\n"
	"  -q, --quiet      no progress bar, no summaries\n"
	"  -f, --force      change the keys of a volume that holds a file system\n"
	"      --cache=SIZE memory for frames of the tree; 256M\n"
	"  -v, --verbose    what the engine has to say\n"
	"  -V, --version    print the version\n"
	"  -h, --help       print this help\n"
	"\n"
	"Keys and values are any bytes: \\\\ \\t \\n \\xHH stand for what cannot be typed.\n"
	"Exit code: 0 done, 1 failed, 2 wrong usage, 3 no such key or condition not met,\n"
	"4 damage found.\n"
	"Example: holtctl ls --prefix=photos/ --delimiter=/ store.holt\n",
    .usage_exit = EXIT_USAGE,
};

enum {
	OPTION_PREFIX = 256,
	OPTION_DELIMITER,
	OPTION_START_AFTER,
	OPTION_LIMIT,
	OPTION_RAW,
	OPTION_STDIN,
	OPTION_IF_ABSENT,
	OPTION_IF_VERSION,
	OPTION_PROMETHEUS,
	OPTION_SIZE,
	OPTION_LABEL,
	OPTION_CACHE,
};

#define BIT_OF(option) BIT((option) - OPTION_PREFIX)
#define LONG BIT(30)
#define FORCE BIT(31)

struct command {
	const char *name;
	int (*run)(const struct arguments *arguments);
	int least, most; /* arguments behind the volume */
	uint64_t options;
};

static const struct command commands[] = {
    {"create", run_create, 0, 0, BIT_OF(OPTION_SIZE) | BIT_OF(OPTION_LABEL)},
    {"get", run_get, 1, 1, BIT_OF(OPTION_RAW)},
    {"put", run_put, 1, 2,
	BIT_OF(OPTION_STDIN) | BIT_OF(OPTION_IF_ABSENT) | BIT_OF(OPTION_IF_VERSION) | FORCE},
    {"del", run_del, 1, 1 << 20, BIT_OF(OPTION_IF_VERSION) | FORCE},
    {"ls", run_ls, 0, 0,
	BIT_OF(OPTION_PREFIX) | BIT_OF(OPTION_DELIMITER) | BIT_OF(OPTION_START_AFTER) |
	    BIT_OF(OPTION_LIMIT) | LONG},
    {"dump", run_dump, 0, 0, BIT_OF(OPTION_PREFIX)},
    {"load", run_load, 0, 0, FORCE},
    {"stats", run_stats, 0, 0, BIT_OF(OPTION_PROMETHEUS)},
    {"check", run_check, 0, 0, 0},
    {"compact", run_compact, 0, 0, BIT_OF(OPTION_PREFIX)},
    {"checkpoint", run_checkpoint, 0, 0, 0},
};

static const struct option option_names[] = {
    {"json", no_argument, NULL, 'j'},
    {"quiet", no_argument, NULL, 'q'},
    {"force", no_argument, NULL, 'f'},
    {"long", no_argument, NULL, 'l'},
    {"verbose", no_argument, NULL, 'v'},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {"prefix", required_argument, NULL, OPTION_PREFIX},
    {"delimiter", required_argument, NULL, OPTION_DELIMITER},
    {"start-after", required_argument, NULL, OPTION_START_AFTER},
    {"limit", required_argument, NULL, OPTION_LIMIT},
    {"raw", no_argument, NULL, OPTION_RAW},
    {"stdin", no_argument, NULL, OPTION_STDIN},
    {"if-absent", no_argument, NULL, OPTION_IF_ABSENT},
    {"if-version", required_argument, NULL, OPTION_IF_VERSION},
    {"prometheus", no_argument, NULL, OPTION_PROMETHEUS},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"label", required_argument, NULL, OPTION_LABEL},
    {"cache", required_argument, NULL, OPTION_CACHE},
    {0},
};

static int parse_key(const char *text, struct text *ret)
{
	free(ret->bytes);
	if (unescape(text, strlen(text), ret))
		return cli_usage("'%s': \\ is followed by \\, t, n or xHH", text);
	return 0;
}

static int parse_number(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9')
		return cli_usage("'%s' is not a number", text);
	return 0;
}

static int parse_size(const char *text, uint64_t *ret)
{
	if (cli_parse_size(text, ret) || *ret == 0)
		return cli_usage("'%s' is not a size; a size is a number with K, M, G or T, such as 10G",
		    text);
	return 0;
}

static int parse_delimiter(const char *text, struct arguments *arguments)
{
	struct text byte = {0};
	int code = parse_key(text, &byte);

	if (!code && byte.count != 1)
		code = cli_usage("'%s': the delimiter is one byte", text);
	if (!code) {
		arguments->delimiter = (uint8_t)byte.bytes[0];
		arguments->has_delimiter = true;
	}
	free(byte.bytes);
	return code;
}

static int parse_long_option(int option, struct arguments *arguments)
{
	switch (option) {
	case OPTION_PREFIX:
		return parse_key(optarg, &arguments->prefix);
	case OPTION_DELIMITER:
		return parse_delimiter(optarg, arguments);
	case OPTION_START_AFTER:
		arguments->has_start = true;
		return parse_key(optarg, &arguments->start);
	case OPTION_LIMIT:
		return parse_number(optarg, &arguments->limit);
	case OPTION_RAW:
		arguments->is_raw = true;
		return 0;
	case OPTION_STDIN:
		arguments->from_stdin = true;
		return 0;
	case OPTION_IF_ABSENT:
		arguments->if_absent = true;
		return 0;
	case OPTION_IF_VERSION:
		arguments->has_version = true;
		return parse_number(optarg, &arguments->version);
	case OPTION_PROMETHEUS:
		arguments->is_prometheus = true;
		return 0;
	case OPTION_SIZE:
		return parse_size(optarg, &arguments->size_bytes);
	case OPTION_LABEL:
		arguments->label = optarg;
		return 0;
	case OPTION_CACHE:
		return parse_size(optarg, &arguments->cache_bytes);
	default:
		return cli_usage("cannot understand the options");
	}
}

/* Help and version end the program here. */
static int parse_option(int option, struct arguments *arguments, uint64_t *used)
{
	switch (option) {
	case 'j':
		arguments->is_json = true;
		return 0;
	case 'q':
		arguments->is_quiet = true;
		return 0;
	case 'f':
		arguments->is_forced = true;
		*used |= FORCE;
		return 0;
	case 'l':
		arguments->is_long = true;
		*used |= LONG;
		return 0;
	case 'v':
		cli_set_verbose(true);
		return 0;
	case 'V':
		exit(cli_print_version());
	case 'h':
		exit(cli_print_help());
	default:
		if (option >= OPTION_PREFIX && option < OPTION_CACHE)
			*used |= BIT_OF(option);
		return parse_long_option(option, arguments);
	}
}

static const char *option_name(uint64_t bits)
{
	if (bits & FORCE)
		return "force";
	if (bits & LONG)
		return "long";
	for (size_t i = 0; option_names[i].name; i++) {
		int value = option_names[i].val;

		if (value >= OPTION_PREFIX && value < OPTION_CACHE && (bits & BIT_OF(value)))
			return option_names[i].name;
	}
	return "";
}

static int choose_command(int argc, char **argv, struct arguments *arguments, uint64_t used,
    const struct command **ret)
{
	const struct command *command = NULL;

	if (optind == argc)
		return cli_usage("no command given");
	arguments->command = argv[optind++];
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
		if (strcmp(commands[i].name, arguments->command) == 0)
			command = &commands[i];
	if (!command)
		return cli_usage("there is no command '%s'", arguments->command);
	if (optind == argc)
		return cli_usage("no volume named");
	arguments->path = argv[optind++];
	arguments->rest = argv + optind;
	arguments->rest_count = argc - optind;
	if (arguments->rest_count < command->least)
		return cli_usage("%s needs %s", command->name,
		    "a key behind the volume");
	if (arguments->rest_count > command->most)
		return cli_usage("%s does not take '%s'", command->name,
		    arguments->rest[command->most]);
	if (used & ~command->options)
		return cli_usage("%s does not take --%s", command->name,
		    option_name(used & ~command->options));
	*ret = command;
	return 0;
}

static int run(int argc, char **argv, struct arguments *arguments)
{
	const struct command *command = NULL;
	uint64_t used = 0;
	int option, code;

	while ((option = getopt_long(argc, argv, "jqflvVh", option_names, NULL)) != -1) {
		code = parse_option(option, arguments, &used);
		if (code)
			return code;
	}
	code = choose_command(argc, argv, arguments, used, &command);
	return code ? code : command->run(arguments);
}

int main(int argc, char **argv)
{
	struct arguments arguments = {0};
	int code;

	cli_begin(&program);
	code = run(argc, argv, &arguments);
	free(arguments.prefix.bytes);
	free(arguments.start.bytes);
	return code;
}
