/*
 * Keys and values as text and as JSON, messages, the progress bar.
 *
 * Bytes are written in one notation everywhere: in arguments, in listings, in dumps and
 * inside JSON strings.  It is plain ASCII, each sequence of bytes has exactly one form,
 * and no form contains a tab or a newline, so lines and columns can be taken apart.
 */
#include "config.h"

#include "mount-helpers/holtctl.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "mount-helpers/cli.h"

#define BAR_CELLS 30
#define BAR_NS 100000000ull /* between two pictures */

/* ---- bytes ------------------------------------------------------------------------- */

static char *put_byte(char *at, uint8_t byte)
{
	static const char digits[] = "0123456789abcdef";

	if (byte >= ' ' && byte <= '~' && byte != '\\') {
		*at++ = (char)byte;
		return at;
	}
	*at++ = '\\';
	switch (byte) {
	case '\\':
		*at++ = '\\';
		return at;
	case '\t':
		*at++ = 't';
		return at;
	case '\n':
		*at++ = 'n';
		return at;
	default:
		*at++ = 'x';
		*at++ = digits[byte >> 4];
		*at++ = digits[byte & 15];
		return at;
	}
}

char *escape(const void *bytes, size_t count)
{
	const uint8_t *from = bytes;
	char *text = malloc(4 * count + 1), *at = text;

	if (!text)
		return NULL;
	for (size_t i = 0; i < count; i++)
		at = put_byte(at, from[i]);
	*at = '\0';
	return text;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Characters taken, -EINVAL: not an escape. */
static int take_escape(const char *text, size_t count, char *ret)
{
	if (count < 2)
		return -EINVAL;
	switch (text[1]) {
	case '\\':
		*ret = '\\';
		return 2;
	case 't':
		*ret = '\t';
		return 2;
	case 'n':
		*ret = '\n';
		return 2;
	case 'x':
		if (count < 4 || hex_digit(text[2]) < 0 || hex_digit(text[3]) < 0)
			return -EINVAL;
		*ret = (char)(hex_digit(text[2]) << 4 | hex_digit(text[3]));
		return 4;
	default:
		return -EINVAL;
	}
}

int unescape(const char *text, size_t count, struct text *ret)
{
	char *bytes = malloc(count + 1);
	size_t used = 0;

	if (!bytes)
		return -ENOMEM;
	for (size_t i = 0; i < count;) {
		int taken = 1;

		bytes[used] = text[i];
		if (text[i] == '\\')
			taken = take_escape(text + i, count - i, &bytes[used]);
		if (taken < 0) {
			free(bytes);
			return -EINVAL;
		}
		i += (size_t)taken;
		used++;
	}
	*ret = (struct text){.bytes = bytes, .count = used};
	return 0;
}

/* ---- items ------------------------------------------------------------------------- */

static int print_json_item(const struct holt_item *item, const char *key, const char *value)
{
	json_t *object;
	int bad;

	if (item->is_prefix)
		object = json_pack("{s:s}", "prefix", key);
	else if (value)
		object = json_pack("{s:s, s:s, s:I}", "key", key, "value", value, "version",
		    (json_int_t)item->version);
	else
		object = json_pack("{s:s}", "key", key);
	if (!object)
		return -ENOMEM;
	bad = json_dumpf(object, stdout, JSON_COMPACT);
	json_decref(object);
	return bad || putchar('\n') == EOF ? -EIO : 0;
}

int print_item(const struct arguments *arguments, const struct holt_item *item, bool with_value)
{
	cleanup_free char *key = escape(item->key, item->key_bytes);
	cleanup_free char *value = NULL;

	if (with_value && !item->is_prefix)
		value = escape(item->value, item->value_bytes);
	if (!key || (with_value && !item->is_prefix && !value))
		return -ENOMEM;
	if (arguments->is_json)
		return print_json_item(item, key, value);
	return printf("%s%s%s\n", key, value ? "\t" : "", value ? value : "") < 0 ? -EIO : 0;
}

/* ---- messages ---------------------------------------------------------------------- */

static const char *explain(int err)
{
	switch (err) {
	case -EBUSY:
		return "in use by another program";
	case -EMEDIUMTYPE:
		return "not a store";
	case -EPROTONOSUPPORT:
		return "made by a version of the software that this one does not know";
	case -EUCLEAN:
		return "damaged";
	case -EROFS:
		return "cannot be written to";
	case -ESTALE:
		return "the key has another version";
	case -EEXIST:
		return "exists already";
	case -ENAMETOOLONG:
		return "the key is too long";
	case -E2BIG:
		return "the value is too long";
	default:
		return strerror(-err);
	}
}

int failed(const struct arguments *arguments, const char *what, int err)
{
	end_progress();
	if (what)
		cli_error("%s: %s: %s", arguments->path, what, explain(err));
	else
		cli_error("%s: %s", arguments->path, explain(err));
	return EXIT_FAILED;
}

/* ---- progress ----------------------------------------------------------------------- */

static bool has_bar;
static uint64_t bar_shown_ns;

static void draw(const char *command, uint64_t done, uint64_t total)
{
	char cells[BAR_CELLS + 1];
	uint64_t full = total ? done * BAR_CELLS / total : 0;

	if (!total) {
		fprintf(stderr, "\r%s %" PRIu64 " keys", command, done);
		return;
	}
	for (uint64_t i = 0; i < BAR_CELLS; i++)
		cells[i] = i < full ? '#' : '.';
	cells[BAR_CELLS] = '\0';
	fprintf(stderr, "\r%s [%s] %3u%%", command, cells, (unsigned)(done * 100 / total));
}

void show_progress(const struct arguments *arguments, uint64_t done, uint64_t total)
{
	uint64_t now;

	if (arguments->is_quiet || !isatty(STDERR_FILENO))
		return;
	now = monotonic_ns();
	if (has_bar && now - bar_shown_ns < BAR_NS)
		return;
	draw(arguments->command, done < total || !total ? done : total, total);
	fflush(stderr);
	has_bar = true;
	bar_shown_ns = now;
}

void end_progress(void)
{
	if (has_bar)
		fputs("\r\033[K", stderr);
	has_bar = false;
}
