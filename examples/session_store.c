/*
 * Sessions of a web service: changed only by who has seen the latest state, and gone
 * when their time has come.
 *
 * A session has two keys: "session/ID" with its state, and "expiry/TIME/ID", by which
 * those that are due are found without looking at the others.  Both change in one batch.
 * Time is a number that the program passes in.
 */
#include <holt.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES 96

struct session {
	uint64_t expires;
	uint32_t visits;
};

static size_t session_key(char key[KEY_BYTES], const char *id)
{
	return (size_t)snprintf(key, KEY_BYTES, "session/%s", id);
}

/* Numbers with leading zeros sort as text. */
static size_t expiry_key(char key[KEY_BYTES], uint64_t time, const char *id)
{
	return (size_t)snprintf(key, KEY_BYTES, "expiry/%010" PRIu64 "/%s", time, id);
}

static int begin(struct holt *holt, const char *id, uint64_t now)
{
	struct session session = {.expires = now + 100, .visits = 1};
	char key[KEY_BYTES], expiry[KEY_BYTES];
	struct holt_batch *batch;
	int err = holt_batch_create(holt, &batch);

	if (err)
		return err;
	holt_batch_put_if_absent(batch, key, session_key(key, id), &session, sizeof(session));
	holt_batch_put(batch, expiry, expiry_key(expiry, session.expires, id), "", 0);
	err = holt_batch_commit(batch, HOLT_DEFAULT);
	holt_batch_destroy(batch);
	return err;
}

/* Only if nobody else has changed the session since it was read. */
static int write_back(struct holt *holt, const char *id, const struct session *old,
    uint64_t version, uint64_t now)
{
	struct session session = {.expires = now + 100, .visits = old->visits + 1};
	char key[KEY_BYTES], from[KEY_BYTES], to[KEY_BYTES];
	struct holt_batch *batch;
	int err = holt_batch_create(holt, &batch);

	if (err)
		return err;
	holt_batch_compare_and_put(batch, key, session_key(key, id), version, &session,
	    sizeof(session));
	holt_batch_rename(batch, from, expiry_key(from, old->expires, id), to,
	    expiry_key(to, session.expires, id), HOLT_REPLACE);
	err = holt_batch_commit(batch, HOLT_DEFAULT);
	holt_batch_destroy(batch);
	return err;
}

static int visit(struct holt *holt, const char *id, uint64_t now)
{
	struct session session;
	char key[KEY_BYTES];
	uint64_t version;
	size_t bytes;
	int err;

	do {
		err = holt_get(holt, key, session_key(key, id), &session, sizeof(session), &bytes,
		    &version);
		if (!err)
			err = write_back(holt, id, &session, version, now);
	} while (err == -ESTALE);
	if (!err)
		printf("%" PRIu64 ": %s visits for the %u. time\n", now, id, session.visits + 1);
	return err;
}

struct sweep {
	struct holt *holt;
	uint64_t now;
};

/* Keys come in the order of time: the first that is not due ends the walk. */
static int end_if_due(void *ctx, const struct holt_item *item)
{
	const struct sweep *sweep = ctx;
	char text[KEY_BYTES] = "", key[KEY_BYTES];
	struct holt_batch *batch;
	char *id;
	int err;

	memcpy(text, item->key, item->key_bytes < KEY_BYTES ? item->key_bytes : KEY_BYTES - 1);
	if (strtoull(text + 7, &id, 10) > sweep->now)
		return 1;
	err = holt_batch_create(sweep->holt, &batch);
	if (err)
		return err;
	holt_batch_delete(batch, item->key, item->key_bytes);
	holt_batch_delete(batch, key, session_key(key, id + 1));
	err = holt_batch_commit(batch, HOLT_DEFAULT);
	holt_batch_destroy(batch);
	if (!err)
		printf("%" PRIu64 ": %s is over\n", sweep->now, id + 1);
	return err;
}

static int sweep(struct holt *holt, uint64_t now)
{
	struct holt_range range = {.prefix = "expiry/", .prefix_bytes = 7, .flags = HOLT_KEYS_ONLY};
	struct sweep sweep = {.holt = holt, .now = now};
	int result = holt_visit(holt, &range, 0, end_if_due, &sweep);

	return result > 0 ? 0 : result;
}

static int run(struct holt *holt)
{
	int err = begin(holt, "ann", 1000);

	if (!err)
		err = begin(holt, "bob", 1010);
	if (!err && begin(holt, "ann", 1020) != -EEXIST)
		err = -EEXIST;
	if (!err)
		err = visit(holt, "ann", 1050);
	if (!err)
		err = sweep(holt, 1105);
	if (!err)
		err = sweep(holt, 1120);
	if (!err)
		err = visit(holt, "ann", 1130);
	if (!err && visit(holt, "bob", 1131) != -ENOENT)
		err = -EEXIST;
	if (!err)
		err = sweep(holt, 2000);
	if (!err)
		printf("sessions left: %s\n",
		    holt_is_prefix_empty(holt, "session/", 8) == 1 ? "none" : "some");
	return err;
}

int main(void)
{
	struct holt *holt;
	int err = holt_open_memory(NULL, &holt);

	if (!err) {
		err = run(holt);
		holt_close(holt);
	}
	if (err)
		fprintf(stderr, "%s\n", strerror(-err));
	return err != 0;
}
