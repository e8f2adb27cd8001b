/*
 * What a key stands for, as text for a finding.
 *
 *	"N/" "usr/" NUL "lib"      /usr/lib
 *	"O" be64(7) "/" ...        unlinked inode 7
 *	others                     the bytes in quotes
 *
 * Bytes that would disturb a line are shown as '?'.
 */
#include "config.h"

#include "check/check_internal.h"

#include <stdio.h>

static void append(char text[PATH_TEXT], size_t *at, const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count && *at + 1 < PATH_TEXT; i++)
		text[(*at)++] = bytes[i] < ' ' || bytes[i] == 127 ? '?' : (char)bytes[i];
	text[*at] = 0;
}

void quote_key(const uint8_t *key, uint32_t bytes, char text[PATH_TEXT])
{
	size_t at = 0;

	append(text, &at, (const uint8_t *)"\"", 1);
	append(text, &at, key, bytes);
	append(text, &at, (const uint8_t *)"\"", 1);
}

void describe_key(const uint8_t *key, uint32_t bytes, char text[PATH_TEXT])
{
	size_t at = 0;
	uint32_t first;

	if (bytes >= KEY_ORPHAN_BYTES && key[0] == KEY_ORPHAN) {
		snprintf(text, PATH_TEXT, "unlinked inode %llu", (ull)be64_load(key + 1));
		return;
	}
	if (bytes == 0 || key[0] != KEY_ROOT_INODE[0]) {
		quote_key(key, bytes, text);
		return;
	}
	first = 1;
	text[0] = 0;
	for (uint32_t i = 1; i < bytes; i++) {
		if (key[i] != 0)
			continue;
		append(text, &at, key + first, i - first);
		first = i + 1;
	}
	append(text, &at, key + first, bytes - first);
	if (at > 1 && text[at - 1] == '/')
		text[--at] = 0;
	if (at == 0)
		snprintf(text, PATH_TEXT, "/");
}
