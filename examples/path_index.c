/*
 * An index of paths: what a program keeps that watches a tree of files.
 *
 * The key is the path, the value says what is there.  Everything below a directory lies
 * together, so a directory is listed without what lies deeper, renamed with all that is
 * in it at once, and dropped at once.
 *
 *	usage: path_index STORE
 */
#include <holt.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct file {
	uint64_t size, modified;
};

static int add(struct holt *holt, const char *path, uint64_t size, uint64_t modified)
{
	struct file file = {.size = size, .modified = modified};

	return holt_put(holt, path, strlen(path), &file, sizeof(file));
}

static int print_entry(void *ctx, const struct holt_item *item)
{
	struct file file;

	printf("  %.*s", (int)item->key_bytes, (const char *)item->key);
	if (!item->is_prefix) {
		memcpy(&file, item->value, sizeof(file));
		printf(" (%llu bytes)", (unsigned long long)file.size);
	}
	putchar('\n');
	return 0;
}

static int list_directory(struct holt *holt, const char *path)
{
	struct holt_range range = {
	    .prefix = path,
	    .prefix_bytes = strlen(path),
	    .has_delimiter = true,
	    .delimiter = '/',
	};

	printf("%s\n", path);
	return holt_visit(holt, &range, 0, print_entry, NULL);
}

/* The file that is nearest above a path: who has settings for it? */
static int print_nearest(struct holt *holt, const char *path)
{
	size_t bytes;
	int err = holt_longest_prefix(holt, path, strlen(path), &bytes, NULL, 0, NULL, NULL);

	if (err && err != -ERANGE)
		return err;
	printf("nearest to %s: %.*s\n", path, (int)bytes, path);
	return 0;
}

static int rename_directory(struct holt *holt, const char *from, const char *to)
{
	int err = holt_move_prefix(holt, from, strlen(from), to, strlen(to));

	printf("%s becomes %s\n", from, to);
	return err;
}

static int run(struct holt *holt)
{
	int err = add(holt, "/home/ann", 0, 1);

	if (!err)
		err = add(holt, "/home/ann/notes.txt", 120, 2);
	if (!err)
		err = add(holt, "/home/ann/pictures/cat.jpg", 48000, 3);
	if (!err)
		err = add(holt, "/home/ann/pictures/dog.jpg", 51000, 4);
	if (!err)
		err = list_directory(holt, "/home/ann/");
	if (!err)
		err = print_nearest(holt, "/home/ann/music/song");
	if (!err)
		err = rename_directory(holt, "/home/ann/pictures/", "/archive/2024/");
	if (!err)
		err = list_directory(holt, "/archive/2024/");
	if (!err)
		err = holt_drop_prefix(holt, "/home/", 6);
	if (!err)
		err = list_directory(holt, "/");
	return err;
}

int main(int argc, char **argv)
{
	struct holt_options options = HOLT_OPTIONS_INIT;
	struct holt *holt;
	int err, close_err;

	if (argc != 2) {
		fprintf(stderr, "usage: %s STORE\n", argv[0]);
		return 2;
	}
	options.flags = HOLT_CREATE;
	options.volume_bytes = 64 << 20;
	err = holt_open(argv[1], &options, &holt);
	if (err) {
		fprintf(stderr, "%s: %s\n", argv[1], strerror(-err));
		return 1;
	}
	err = run(holt);
	close_err = holt_close(holt);
	err = err ? err : close_err;
	if (err)
		fprintf(stderr, "%s: %s\n", argv[1], strerror(-err));
	return err != 0;
}
