/*
 * Opening a store, and the commands on keys: create, get, put, del, ls.
 */
#include "config.h"

#include "mount-helpers/holtctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "format/fs_format.h"
#include "mount-helpers/cli.h"

/* ---- opening ------------------------------------------------------------------------ */

static bool has_file_system(struct holt *holt)
{
	return holt_get_version(holt, KEY_ROOT_INODE, sizeof(KEY_ROOT_INODE) - 1, NULL) == 0 &&
	       holt_get_version(holt, KEY_VOLUME_INO_LIMIT, sizeof(KEY_VOLUME_INO_LIMIT) - 1,
		   NULL) == 0;
}

struct holt *open_store(const struct arguments *arguments, unsigned flags, bool changes_keys)
{
	struct holt_options options = HOLT_OPTIONS_INIT;
	struct holt *holt;
	int err;

	options.flags = flags;
	options.cache_bytes = arguments->cache_bytes;
	options.volume_bytes = arguments->size_bytes;
	options.label = arguments->label;
	err = holt_open(arguments->path, &options, &holt);
	if (err) {
		failed(arguments, NULL, err);
		return NULL;
	}
	if (changes_keys && !arguments->is_forced && has_file_system(holt)) {
		cli_error("%s: holds a file system; mount it to change it (or --force)",
		    arguments->path);
		holt_close(holt);
		return NULL;
	}
	return holt;
}

int close_store(const struct arguments *arguments, struct holt *holt, int code)
{
	int err;

	end_progress();
	err = holt_close(holt);
	if (err)
		return failed(arguments, "closing", err);
	if (cli_finish_output()) {
		cli_error("cannot write the result");
		return EXIT_FAILED;
	}
	return code;
}

/* About one key: -ENOENT and unmet conditions are answers. */
static int key_failed(const struct arguments *arguments, const char *key, int err)
{
	bool is_answer = err == -ENOENT || err == -EEXIST || err == -ESTALE;

	if (err == -ENOENT)
		cli_error("%s: %s: no such key", arguments->path, key);
	else
		failed(arguments, key, err);
	return is_answer ? EXIT_REFUSED : EXIT_FAILED;
}

/* Keys of arguments; the message is made here. */
static int parse_argument(const char *argument, struct text *ret)
{
	int err = unescape(argument, strlen(argument), ret);

	if (err == -ENOMEM)
		cli_error("out of memory");
	else if (err)
		return cli_usage("'%s': \\ is followed by \\, t, n or xHH", argument);
	return err ? EXIT_FAILED : 0;
}

int run_create(const struct arguments *arguments)
{
	struct holt *holt = open_store(arguments, HOLT_CREATE | HOLT_EXCLUSIVE | HOLT_NO_THREADS,
	    false);

	return holt ? close_store(arguments, holt, EXIT_DONE) : EXIT_FAILED;
}

/* ---- get ---------------------------------------------------------------------------- */

static int print_value(const struct arguments *arguments, const struct holt_item *item)
{
	cleanup_free char *text = NULL;

	if (arguments->is_json)
		return print_item(arguments, item, true);
	if (arguments->is_raw)
		return fwrite(item->value, 1, item->value_bytes, stdout) == item->value_bytes ? 0
											  : -EIO;
	text = escape(item->value, item->value_bytes);
	if (!text)
		return -ENOMEM;
	return puts(text) < 0 ? -EIO : 0;
}

static int get(const struct arguments *arguments, struct holt *holt, const struct text *key)
{
	static char value[HOLT_VALUE_MAX];
	struct holt_item item = {.key = key->bytes, .key_bytes = key->count, .value = value};
	int err = holt_get(holt, key->bytes, key->count, value, sizeof(value), &item.value_bytes,
	    &item.version);

	return err ? err : print_value(arguments, &item);
}

int run_get(const struct arguments *arguments)
{
	struct text key = {0};
	int code = parse_argument(arguments->rest[0], &key), err;
	struct holt *holt;

	if (code)
		return code;
	holt = open_store(arguments, HOLT_READ_ONLY, false);
	if (!holt) {
		free(key.bytes);
		return EXIT_FAILED;
	}
	err = get(arguments, holt, &key);
	free(key.bytes);
	if (err)
		code = key_failed(arguments, arguments->rest[0], err);
	return close_store(arguments, holt, code);
}

/* ---- put ---------------------------------------------------------------------------- */

static int read_stdin(struct text *ret)
{
	char *bytes = malloc(HOLT_VALUE_MAX + 1);
	size_t count;

	if (!bytes)
		return -ENOMEM;
	/* A byte more than fits is enough to be refused. */
	count = fread(bytes, 1, HOLT_VALUE_MAX + 1, stdin);
	*ret = (struct text){.bytes = bytes, .count = count};
	return ferror(stdin) ? -EIO : 0;
}

static int read_value(const struct arguments *arguments, struct text *ret)
{
	int err;

	if (arguments->from_stdin == (arguments->rest_count == 2))
		return cli_usage("put needs a value behind the key, or --stdin");
	if (!arguments->from_stdin)
		return parse_argument(arguments->rest[1], ret);
	err = read_stdin(ret);
	if (err)
		cli_error("standard input: %s", strerror(-err));
	return err ? EXIT_FAILED : 0;
}

static int put(const struct arguments *arguments, struct holt *holt, const struct text *key,
    const struct text *value)
{
	if (arguments->if_absent)
		return holt_put_if_absent(holt, key->bytes, key->count, value->bytes, value->count);
	if (arguments->has_version)
		return holt_compare_and_put(holt, key->bytes, key->count, arguments->version,
		    value->bytes, value->count);
	return holt_put(holt, key->bytes, key->count, value->bytes, value->count);
}

static int put_parsed(const struct arguments *arguments, const struct text *key,
    const struct text *value)
{
	struct holt *holt = open_store(arguments, HOLT_NO_THREADS, true);
	int err, code = EXIT_DONE;

	if (!holt)
		return EXIT_FAILED;
	err = put(arguments, holt, key, value);
	if (err)
		code = key_failed(arguments, arguments->rest[0], err);
	return close_store(arguments, holt, code);
}

int run_put(const struct arguments *arguments)
{
	struct text key = {0}, value = {0};
	int code = 0;

	if (arguments->if_absent && arguments->has_version)
		code = cli_usage("--if-absent and --if-version exclude each other");
	if (!code)
		code = parse_argument(arguments->rest[0], &key);
	if (!code)
		code = read_value(arguments, &value);
	if (!code)
		code = put_parsed(arguments, &key, &value);
	free(key.bytes);
	free(value.bytes);
	return code;
}

/* ---- del ---------------------------------------------------------------------------- */

static int delete_key(const struct arguments *arguments, struct holt *holt, const char *argument)
{
	struct text key = {0};
	int code = parse_argument(argument, &key), err;

	if (code)
		return code;
	if (arguments->has_version)
		err = holt_delete_if_version(holt, key.bytes, key.count, arguments->version);
	else
		err = holt_delete(holt, key.bytes, key.count);
	free(key.bytes);
	return err ? key_failed(arguments, argument, err) : EXIT_DONE;
}

int run_del(const struct arguments *arguments)
{
	struct holt *holt = open_store(arguments, HOLT_NO_THREADS, true);
	int code = EXIT_DONE;

	if (!holt)
		return EXIT_FAILED;
	for (int i = 0; i < arguments->rest_count; i++) {
		int one = delete_key(arguments, holt, arguments->rest[i]);

		code = code ? code : one;
	}
	return close_store(arguments, holt, code);
}

/* ---- ls ----------------------------------------------------------------------------- */

static int print_listed(void *ctx, const struct holt_item *item)
{
	const struct arguments *arguments = ctx;

	return print_item(arguments, item, arguments->is_long);
}

int run_ls(const struct arguments *arguments)
{
	struct holt *holt = open_store(arguments, HOLT_READ_ONLY, false);
	struct holt_range range = {
	    .prefix = arguments->prefix.bytes,
	    .prefix_bytes = arguments->prefix.count,
	    .start = arguments->start.bytes,
	    .start_bytes = arguments->start.count,
	    .is_after = true,
	    .has_delimiter = arguments->has_delimiter,
	    .delimiter = arguments->delimiter,
	    .flags = arguments->is_long ? 0 : HOLT_KEYS_ONLY,
	};
	int err, code = EXIT_DONE;

	if (!holt)
		return EXIT_FAILED;
	err = holt_visit(holt, &range, arguments->limit, print_listed, (void *)arguments);
	if (err)
		code = failed(arguments, "listing", err);
	return close_store(arguments, holt, code);
}
