/*
 * dump and load: a store as text, and back.
 *
 * The text begins with a line that names its form and ends with one that counts its
 * items, so that half a dump is not taken for a whole one:
 *
 *	holt-dump 1			{"holt-dump":1}
 *	KEY <tab> VALUE			{"key":"KEY","value":"VALUE","version":N}
 *	...				...
 *	end 2				{"end":2}
 *
 * Keys and values are in the notation of holtctl_text.c.  load takes either form.  It
 * puts items as they come; a line that it cannot read ends it, with what came before
 * already in the store.
 */
#include "config.h"

#include "mount-helpers/holtctl.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "mount-helpers/cli.h"

/* ---- dump --------------------------------------------------------------------------- */

struct dump {
	const struct arguments *arguments;
	uint64_t count;
};

static int dump_item(void *ctx, const struct holt_item *item)
{
	struct dump *dump = ctx;
	int err = print_item(dump->arguments, item, true);

	if (!err)
		show_progress(dump->arguments, ++dump->count, 0);
	return err;
}

int run_dump(const struct arguments *arguments)
{
	struct holt *holt = open_store(arguments, HOLT_READ_ONLY, false);
	struct holt_range range = {
	    .prefix = arguments->prefix.bytes, .prefix_bytes = arguments->prefix.count};
	struct dump dump = {.arguments = arguments};
	int err, code = EXIT_DONE;

	if (!holt)
		return EXIT_FAILED;
	puts(arguments->is_json ? "{\"holt-dump\":1}" : "holt-dump 1");
	err = holt_visit(holt, &range, 0, dump_item, &dump);
	if (err)
		code = failed(arguments, "dumping", err);
	else if (arguments->is_json)
		printf("{\"end\":%" PRIu64 "}\n", dump.count);
	else
		printf("end %" PRIu64 "\n", dump.count);
	return close_store(arguments, holt, code);
}

/* ---- load --------------------------------------------------------------------------- */

struct load {
	const struct arguments *arguments;
	char *line;
	size_t line_size;
	uint64_t line_number, count;
	bool is_json, has_end;
	struct text key, value; /* of the item handed over last */
};

static int refuse_line(const struct load *load, const char *what)
{
	end_progress();
	cli_error("line %" PRIu64 ": %s", load->line_number, what);
	return -EBADMSG;
}

/* Its length without the newline; -ENODATA: the end of the input. */
static ssize_t read_line(struct load *load)
{
	ssize_t bytes = getline(&load->line, &load->line_size, stdin);

	load->line_number++;
	if (bytes < 0)
		return ferror(stdin) ? -EIO : -ENODATA;
	if (bytes > 0 && load->line[bytes - 1] == '\n')
		load->line[--bytes] = '\0';
	return bytes;
}

static int check_end(struct load *load, uint64_t count)
{
	load->has_end = true;
	return count == load->count ? 0 : refuse_line(load, "the dump lacks items before its end");
}

static void drop_item(struct load *load)
{
	free(load->key.bytes);
	free(load->value.bytes);
	load->key = load->value = (struct text){0};
}

static int take_item(struct load *load, const char *key, size_t key_chars, const char *value,
    size_t value_chars)
{
	drop_item(load);
	if (unescape(key, key_chars, &load->key) || unescape(value, value_chars, &load->value))
		return refuse_line(load, "\\ is followed by \\, t, n or xHH");
	if (load->key.count == 0 || load->key.count > HOLT_KEY_MAX)
		return refuse_line(load, "a key has 1 to 65534 bytes");
	if (load->value.count > HOLT_VALUE_MAX)
		return refuse_line(load, "a value has at most 131072 bytes");
	load->count++;
	show_progress(load->arguments, load->count, 0);
	return 1;
}

static int parse_text(struct load *load, size_t bytes)
{
	char *tab = memchr(load->line, '\t', bytes), *end;
	uint64_t count;

	if (tab)
		return take_item(load, load->line, (size_t)(tab - load->line), tab + 1,
		    bytes - (size_t)(tab + 1 - load->line));
	if (strncmp(load->line, "end ", 4) != 0)
		return refuse_line(load, "neither an item (KEY, a tab, VALUE) nor the end");
	count = strtoull(load->line + 4, &end, 10);
	return *end ? refuse_line(load, "the end without a count") : check_end(load, count);
}

static int parse_json(struct load *load, size_t bytes)
{
	json_t *object = json_loadb(load->line, bytes, 0, NULL);
	const char *key, *value;
	size_t key_chars, value_chars;
	json_int_t count;
	int err;

	if (json_unpack(object, "{s:s%, s:s%}", "key", &key, &key_chars, "value", &value,
		&value_chars) == 0)
		err = take_item(load, key, key_chars, value, value_chars);
	else if (json_unpack(object, "{s:I}", "end", &count) == 0)
		err = check_end(load, (uint64_t)count);
	else
		err = refuse_line(load, "neither {\"key\": ..., \"value\": ...} nor {\"end\": ...}");
	json_decref(object);
	return err;
}

static int next_item(void *ctx, const void **key, size_t *key_bytes, const void **value,
    size_t *value_bytes)
{
	struct load *load = ctx;
	ssize_t bytes = read_line(load);
	int more;

	if (bytes == -ENODATA)
		return refuse_line(load, "the dump ends too early");
	if (bytes < 0)
		return (int)bytes;
	more = load->is_json ? parse_json(load, (size_t)bytes) : parse_text(load, (size_t)bytes);
	*key = load->key.bytes;
	*key_bytes = load->key.count;
	*value = load->value.bytes;
	*value_bytes = load->value.count;
	return more;
}

static int read_head(struct load *load)
{
	ssize_t bytes = read_line(load);

	if (bytes >= 0 && strcmp(load->line, "holt-dump 1") == 0)
		return 0;
	load->is_json = true;
	if (bytes >= 0 && strcmp(load->line, "{\"holt-dump\":1}") == 0)
		return 0;
	return bytes == -EIO ? -EIO : refuse_line(load, "not a dump that this version knows");
}

int run_load(const struct arguments *arguments)
{
	struct load load = {.arguments = arguments};
	struct holt *holt = open_store(arguments, 0, true);
	int err, code = EXIT_DONE;

	if (!holt)
		return EXIT_FAILED;
	err = read_head(&load);
	if (!err)
		err = holt_load(holt, next_item, &load);
	if (err)
		code = err == -EBADMSG ? EXIT_FAILED : failed(arguments, "loading", err);
	else if (!arguments->is_quiet && arguments->is_json)
		printf("{\"loaded\":%" PRIu64 "}\n", load.count);
	else if (!arguments->is_quiet)
		printf("%" PRIu64 " keys loaded\n", load.count);
	drop_item(&load);
	free(load.line);
	return close_store(arguments, holt, code);
}
