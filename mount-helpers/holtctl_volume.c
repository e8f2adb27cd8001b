/*
 * The commands on whole volumes: stats, check, compact, checkpoint.
 */
#include "config.h"

#include "mount-helpers/holtctl.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "check/check.h"
#include "device/device.h"
#include "mount-helpers/cli.h"
#include "mount-helpers/volume.h"

/* ---- stats -------------------------------------------------------------------------- */

static char *stats_text(struct holt *holt)
{
	int bytes = holt_stats_text(holt, NULL, 0);
	size_t size = bytes < 0 ? 0 : (size_t)bytes + 64; /* numbers may grow meanwhile */
	char *text = bytes < 0 ? NULL : malloc(size);

	if (text)
		holt_stats_text(holt, text, size);
	return text;
}

/* Each line that is no comment: a name, a space, a number. */
static int print_plain(char *text, bool is_json)
{
	json_t *object = json_object();
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n")) != NULL) {
		char *value = strchr(line, ' ');

		if (*line == '#' || !value)
			continue;
		*value++ = '\0';
		if (is_json)
			json_object_set_new(object, line,
			    json_integer((json_int_t)strtoull(value, NULL, 10)));
		else
			printf("%-36s %s\n", line, value);
	}
	if (is_json) {
		json_dumpf(object, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
		putchar('\n');
	}
	json_decref(object);
	return 0;
}

int run_stats(const struct arguments *arguments)
{
	cleanup_free char *text = NULL;
	struct holt *holt;

	if (arguments->is_json && arguments->is_prometheus)
		return cli_usage("--json and --prometheus exclude each other");
	holt = open_store(arguments, HOLT_READ_ONLY, false);
	if (!holt)
		return EXIT_FAILED;
	text = stats_text(holt);
	if (!text)
		return close_store(arguments, holt, failed(arguments, NULL, -ENOMEM));
	if (arguments->is_prometheus)
		fputs(text, stdout);
	else
		print_plain(text, arguments->is_json);
	return close_store(arguments, holt, EXIT_DONE);
}

/* ---- check -------------------------------------------------------------------------- */

static void report(void *ctx, enum check_severity severity, const char *what)
{
	static const char *const words[] = {
	    [CHECK_DAMAGE] = "damage",
	    [CHECK_LEAK] = "leak",
	    [CHECK_NOTE] = "note",
	};
	const struct arguments *arguments = ctx;
	json_t *object;

	if (severity == CHECK_NOTE && arguments->is_quiet)
		return;
	if (!arguments->is_json) {
		printf("%s: %s: %s\n", arguments->path, words[severity], what);
		return;
	}
	object = json_pack("{s:s, s:s}", "finding", words[severity], "what", what);
	json_dumpf(object, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(object);
}

static void print_totals(const struct arguments *arguments, const struct check_totals *totals)
{
	if (arguments->is_json)
		printf("{\"keys\":%" PRIu64 ",\"frames\":%" PRIu64 ",\"damages\":%" PRIu64
		       ",\"leaks\":%" PRIu64 "}\n",
		    totals->keys, totals->tree_frames, totals->damages, totals->leaks);
	else if (totals->damages || totals->leaks)
		printf("%s: %" PRIu64 " damaged, %" PRIu64 " leaked; nothing was changed\n",
		    arguments->path, totals->damages, totals->leaks);
	else if (!arguments->is_quiet)
		printf("%s: clean, %" PRIu64 " keys in %" PRIu64 " frames, %.0f %% full\n",
		    arguments->path, totals->keys, totals->tree_frames,
		    totals->average_fill * 100);
}

int run_check(const struct arguments *arguments)
{
	struct check_options options = {
	    .is_store_only = true,
	    .cache_bytes = arguments->cache_bytes,
	    .report = report,
	    .ctx = (void *)arguments,
	};
	struct check_totals totals = {0};
	struct device *device;
	int err;

	if (volume_open_for_check(arguments->path, &device))
		return EXIT_FAILED;
	err = check_volume(device, &options, &totals);
	if (err) {
		failed(arguments, "not checked to the end", err);
		return err == -EUCLEAN ? EXIT_DAMAGED : EXIT_FAILED;
	}
	print_totals(arguments, &totals);
	if (cli_finish_output()) {
		cli_error("cannot write the result");
		return EXIT_FAILED;
	}
	return totals.damages || totals.leaks ? EXIT_DAMAGED : EXIT_DONE;
}

/* ---- upkeep ------------------------------------------------------------------------- */

static int show(void *ctx, uint64_t done, uint64_t total)
{
	show_progress(ctx, done, total);
	return 0;
}

static void print_used(const struct arguments *arguments, struct holt *holt, uint64_t before)
{
	char from[CLI_SIZE_TEXT], to[CLI_SIZE_TEXT];
	struct holt_stats stats;

	holt_stats(holt, &stats, sizeof(stats));
	if (arguments->is_json) {
		printf("{\"used_bytes_before\":%" PRIu64 ",\"used_bytes\":%" PRIu64 "}\n", before,
		    stats.used_bytes);
		return;
	}
	cli_format_size(before, from);
	cli_format_size(stats.used_bytes, to);
	if (!arguments->is_quiet)
		printf("%s: %s in use, %s before\n", arguments->path, to, from);
}

int run_compact(const struct arguments *arguments)
{
	struct holt *holt = open_store(arguments, 0, false);
	struct holt_stats before;
	int err, code = EXIT_DONE;

	if (!holt)
		return EXIT_FAILED;
	holt_stats(holt, &before, sizeof(before));
	err = holt_compact(holt, arguments->prefix.bytes, arguments->prefix.count, show,
	    (void *)arguments);
	end_progress();
	if (err)
		code = failed(arguments, "compacting", err);
	else
		print_used(arguments, holt, before.used_bytes);
	return close_store(arguments, holt, code);
}

int run_checkpoint(const struct arguments *arguments)
{
	struct holt *holt = open_store(arguments, HOLT_NO_THREADS, false);
	int err, code = EXIT_DONE;

	if (!holt)
		return EXIT_FAILED;
	err = holt_checkpoint(holt);
	if (err)
		code = failed(arguments, "checkpoint", err);
	return close_store(arguments, holt, code);
}
