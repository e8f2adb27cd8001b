/*
 * The command line: holtfs VOLUME MOUNTPOINT [-f] [-d] [-o OPTION,...].
 *
 * mount(8), mount.fuse3 and fstab hand over everything that stands in the options
 * column, so three kinds of -o words are known, each in its own table:
 *
 *   words     change what the daemon does           ro, allow_other, noatime
 *   values    the same, with a value                commit=, cache=, io=
 *   kernel    go on to mount(2) as they are         nosuid, nodev, noexec
 *   ignored   mean something to mount(8) only, or   auto, nofail, x-*, relatime
 *             ask for what is done anyway
 *
 * Anything else is refused by its name: a misspelt option that silently does
 * nothing is worse than none.  When a word and its opposite are both given the
 * later one counts, as with mount(8).
 */
#include "config.h"

#include "fuse/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

const char options_usage[] =
    "usage: holtfs VOLUME MOUNTPOINT [options]\n"
    "\n"
    "Mounts a holtfs volume (a file or block device made by mkfs.holtfs).\n"
    "\n"
    "  -f                   stay in the foreground, messages on standard error\n"
    "  -d                   also print every request; implies -f\n"
    "  -o OPTION[,...]      mount options:\n"
    "     ro, rw               read-only, or read and write (default)\n"
    "     commit=SECONDS       at most this much is lost without fsync (default 1;\n"
    "                          fractions allowed)\n"
    "     cache=SIZE           memory for the cache (K, M, G, T)\n"
    "     allow_other          other users may enter the mount\n"
    "     noatime, relatime    do not keep access times, or roughly (default)\n"
    "     nosuid, nodev, noexec   as for mount(8)\n"
    "     io=auto|uring|sync   how the volume is read and written\n"
    "     max_background=N     read-ahead and write requests under way (default 64)\n"
    "     fsname=NAME          the source shown in /proc/mounts (default VOLUME)\n"
    "  -h, --help           this text\n"
    "  -V, --version        the version\n"
    "\n"
    "Unmount with umount or fusermount3 -u.\n";

struct parse {
	struct options *options;
	char *message;
	size_t message_bytes;
};

static __attribute__((format(printf, 2, 3))) int refuse(
    struct parse *p, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(p->message, p->message_bytes, format, ap);
	va_end(ap);
	return -EINVAL;
}

static int refuse_value(
    struct parse *p, const char *name, const char *value, const char *expected)
{
	return refuse(p, "option %s%s: expected %s", name, value, expected);
}

/* ---- values ----------------------------------------------------------------- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits from *@text on, which moves behind them.  False: none, or too many. */
static bool take_number(const char **text, uint64_t *ret)
{
	const char *at = *text;
	uint64_t number = 0;

	if (!is_digit(*at))
		return false;
	for (; is_digit(*at); at++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
			return false;
	*text = at;
	*ret = number;
	return true;
}

static int set_cache(struct parse *p, const char *name, const char *value)
{
	static const char units[] = "KMGT";
	const char *at = value;
	const char *unit;
	uint64_t bytes;

	if (!take_number(&at, &bytes))
		return refuse_value(p, name, value, "a size such as 512M");
	unit = *at ? strchr(units, *at & ~0x20) : NULL;
	if (unit) {
		if (__builtin_mul_overflow(
			bytes, 1ull << (10 * (unit - units + 1)), &bytes))
			return refuse_value(p, name, value, "a smaller size");
		at++;
	}
	if (*at)
		return refuse_value(p, name, value, "a number and K, M, G or T");
	if (bytes < OPTIONS_CACHE_MIN)
		return refuse_value(p, name, value, "at least 8M");
	p->options->cache_bytes = bytes;
	return 0;
}

/* Seconds, to the millisecond; what is finer is cut off. */
static int set_commit(struct parse *p, const char *name, const char *value)
{
	const char *at = value;
	uint64_t seconds, ms;
	unsigned weight = 100;

	if (!take_number(&at, &seconds) || seconds > OPTIONS_COMMIT_MAX_MS / 1000)
		return refuse_value(p, name, value, "seconds, 0.001 to 3600");
	ms = seconds * 1000;
	if (*at == '.')
		for (at++; is_digit(*at); at++, weight /= 10)
			ms += weight * (unsigned)(*at - '0');
	if (*at || ms < 1 || ms > OPTIONS_COMMIT_MAX_MS)
		return refuse_value(p, name, value, "seconds, 0.001 to 3600");
	p->options->commit_interval_ms = (uint32_t)ms;
	return 0;
}

static int set_io(struct parse *p, const char *name, const char *value)
{
	if (strcmp(value, "auto") == 0)
		p->options->io = DEVICE_IO_AUTO;
	else if (strcmp(value, "uring") == 0)
		p->options->io = DEVICE_IO_URING;
	else if (strcmp(value, "sync") == 0)
		p->options->io = DEVICE_IO_SYNC;
	else
		return refuse_value(p, name, value, "auto, uring or sync");
	return 0;
}

static int set_max_background(struct parse *p, const char *name, const char *value)
{
	const char *at = value;
	uint64_t number;

	if (!take_number(&at, &number) || *at || number < 1 || number > UINT16_MAX)
		return refuse_value(p, name, value, "a number, 1 to 65535");
	p->options->max_background = (uint32_t)number;
	return 0;
}

static int set_source(struct parse *p, const char *name, const char *value)
{
	char *source;

	if (!*value)
		return refuse_value(p, name, value, "a name");
	source = strdup(value);
	if (!source)
		return -ENOMEM;
	free(p->options->source);
	p->options->source = source;
	return 0;
}

static const struct {
	const char *name; /* with the '=' */
	int (*set)(struct parse *p, const char *name, const char *value);
} value_options[] = {
    {"commit=", set_commit},
    {"cache=", set_cache},
    {"io=", set_io},
    {"max_background=", set_max_background},
    {"fsname=", set_source},
};

/* ---- words ------------------------------------------------------------------ */

static const char *const kernel_options[] = {
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
};

/* Permissions are always checked by the kernel; access times are relative. */
static const char *const ignored_options[] = {
    "default_permissions",
    "async",
    "defaults",
    "atime",
    "relatime",
    "norelatime",
    "diratime",
    "nodiratime",
    "nostrictatime",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
};

static const char *const ignored_prefixes[] = {"x-", "X-", "comment="};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool is_one_of(const char *word, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(word, list[i]) == 0)
			return true;
	return false;
}

static bool is_ignored(const char *word)
{
	if (is_one_of(word, ignored_options, COUNT(ignored_options)))
		return true;
	for (size_t i = 0; i < COUNT(ignored_prefixes); i++)
		if (strncmp(word, ignored_prefixes[i], strlen(ignored_prefixes[i])) ==
		    0)
			return true;
	return false;
}

static int append_kernel_flag(struct options *options, const char *word)
{
	const char *before = options->kernel_flags;
	char *flags;

	if (asprintf(
		&flags, "%s%s%s", before ? before : "", before ? "," : "", word) < 0)
		return -ENOMEM;
	free(options->kernel_flags);
	options->kernel_flags = flags;
	return 0;
}

/* False: not one of them. */
static bool set_word(struct options *options, const char *word)
{
	if (strcmp(word, "ro") == 0)
		options->is_read_only = true;
	else if (strcmp(word, "rw") == 0)
		options->is_read_only = false;
	else if (strcmp(word, "allow_other") == 0)
		options->has_allow_other = true;
	else if (strcmp(word, "noatime") == 0)
		options->has_no_atime = true;
	else
		return false;
	return true;
}

static int parse_mount_option(struct parse *p, const char *word)
{
	if (!*word || set_word(p->options, word))
		return 0;
	if (strcmp(word, "atime") == 0 || strcmp(word, "relatime") == 0)
		p->options->has_no_atime = false;
	if (is_ignored(word))
		return 0;
	if (is_one_of(word, kernel_options, COUNT(kernel_options)))
		return append_kernel_flag(p->options, word);
	for (size_t i = 0; i < COUNT(value_options); i++) {
		size_t len = strlen(value_options[i].name);

		if (strncmp(word, value_options[i].name, len) == 0)
			return value_options[i].set(
			    p, value_options[i].name, word + len);
	}
	return refuse(p, "unknown option: -o %s", word);
}

/* A comma or backslash that belongs to a value is written with a backslash. */
static int parse_mount_options(struct parse *p, const char *list)
{
	cleanup_free char *word = malloc(strlen(list) + 1);
	size_t len = 0;
	int err;

	if (!word)
		return -ENOMEM;
	for (const char *at = list;; at++) {
		if (*at == '\\' && at[1]) {
			word[len++] = *++at;
			continue;
		}
		if (*at && *at != ',') {
			word[len++] = *at;
			continue;
		}
		word[len] = '\0';
		len = 0;
		err = parse_mount_option(p, word);
		if (err || !*at)
			return err;
	}
}

/* ---- arguments -------------------------------------------------------------- */

static int parse_operand(struct parse *p, const char *operand)
{
	if (!*operand)
		return refuse(p, "an empty name is neither volume nor mount point");
	if (!p->options->volume)
		p->options->volume = operand;
	else if (!p->options->mountpoint)
		p->options->mountpoint = operand;
	else
		return refuse(p, "one argument too many: %s", operand);
	return 0;
}

/* One word that begins with '-': letters that may stand together, -o with its
 * list in the same or the next argument. */
static int parse_letters(struct parse *p, char **argv, int *index)
{
	const char *arg = argv[*index];

	for (const char *letter = arg + 1; *letter; letter++) {
		switch (*letter) {
		case 'f':
			p->options->is_foreground = true;
			break;
		case 'd':
			p->options->is_debug = p->options->is_foreground = true;
			break;
		case 'h':
			p->options->wants_help = true;
			break;
		case 'V':
			p->options->wants_version = true;
			break;
		case 'o':
			if (letter[1])
				return parse_mount_options(p, letter + 1);
			if (!argv[*index + 1])
				return refuse(p, "-o needs a list of options");
			return parse_mount_options(p, argv[++*index]);
		default:
			return refuse(p, "unknown option: -%c", *letter);
		}
	}
	return 0;
}

static int parse_arguments(struct parse *p, int argc, char **argv)
{
	bool has_only_operands = false;
	int err = 0;

	for (int i = 1; i < argc && !err; i++) {
		const char *arg = argv[i];

		if (has_only_operands || arg[0] != '-' || !arg[1])
			err = parse_operand(p, arg);
		else if (strcmp(arg, "--") == 0)
			has_only_operands = true;
		else if (strcmp(arg, "--help") == 0)
			p->options->wants_help = true;
		else if (strcmp(arg, "--version") == 0)
			p->options->wants_version = true;
		else if (arg[1] == '-')
			err = refuse(p, "unknown option: %s", arg);
		else
			err = parse_letters(p, argv, &i);
	}
	return err;
}

int options_parse(
    int argc, char **argv, struct options *ret, char *message, size_t message_bytes)
{
	struct parse p = {ret, message, message_bytes};
	int err;

	*ret = (struct options){.max_background = OPTIONS_MAX_BACKGROUND};
	err = parse_arguments(&p, argc, argv);
	if (err || ret->wants_help || ret->wants_version)
		return err;
	if (!ret->volume)
		return refuse(&p, "volume and mount point are missing");
	if (!ret->mountpoint)
		return refuse(&p, "the mount point is missing");
	return 0;
}

void options_fini(struct options *options)
{
	free(options->source);
	free(options->kernel_flags);
	options->source = options->kernel_flags = NULL;
}
