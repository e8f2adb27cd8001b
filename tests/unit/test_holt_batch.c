/*
 * Batches of the public interface: operations that see one another, guards, what is
 * refused, and which operation the commit names.
 */
#include "config.h"

#include "tests/unit/test_holt.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

static struct holt_batch *batch;
static uint8_t large[HOLT_VALUE_MAX + 1];

static void setup(void)
{
	holt_setup();
	ck_ok(holt_batch_create(holt, &batch));
}

static void teardown(void)
{
	holt_batch_destroy(batch);
	holt_teardown();
}

/* Commits, compares answer and operation, empties the batch. */
static void expect(int err, size_t failed)
{
	ck_assert_int_eq(holt_batch_commit(batch, HOLT_DEFAULT), err);
	ck_assert_uint_eq(holt_batch_failed(batch), failed);
	holt_batch_reset(batch);
}

START_TEST(batch_operations_see_those_before_them)
{
	ck_ok(put("a", "old"));
	holt_batch_put(batch, S("b"), S("1"));
	holt_batch_require_present(batch, S("b"));
	holt_batch_rename(batch, S("b"), S("c"), 0);
	holt_batch_require_absent(batch, S("b"));
	holt_batch_put_if_absent(batch, S("b"), S("2"));
	holt_batch_delete(batch, S("a"));
	holt_batch_put_if_absent(batch, S("a"), S("new"));
	expect(0, SIZE_MAX);
	ck_assert_str_eq(list_all(), "a=new b=2 c=1");
}
END_TEST

START_TEST(batch_failing_at_an_operation_changes_nothing)
{
	ck_ok(put("a", "old"));
	holt_batch_put(batch, S("b"), S("1"));
	holt_batch_put_if_absent(batch, S("a"), S("2"));
	holt_batch_put_if_absent(batch, S("b"), S("3"));
	expect(-EEXIST, 1);
	holt_batch_put(batch, S("b"), S("1"));
	holt_batch_put_if_absent(batch, S("b"), S("3"));
	holt_batch_put_if_absent(batch, S("a"), S("2"));
	expect(-EEXIST, 1);
	holt_batch_delete(batch, S("a"));
	holt_batch_rename(batch, S("a"), S("b"), 0);
	expect(-ENOENT, 1);
	holt_batch_rename(batch, S("x"), S("y"), 0);
	expect(-ENOENT, 0);
	holt_batch_rename(batch, S("a"), S("a"), 0);
	expect(-EEXIST, 0);
	holt_batch_put(batch, S("b"), S("1"));
	holt_batch_compare_and_put(batch, S("b"), 1, S("2"));
	expect(-ESTALE, 1);
	ck_assert_str_eq(list_all(), "a=old");
}
END_TEST

/* What is not allowed behind it does not hide that an operation before it fails. */
START_TEST(batch_says_which_operation_fails_first_whatever_the_reason)
{
	ck_ok(put("a", "old"));
	holt_batch_delete(batch, S("a"));
	holt_batch_require_prefix_empty(batch, S("a"));
	holt_batch_put(batch, S("a"), S("new"));
	expect(-EINVAL, 2);
	holt_batch_require_absent(batch, S("a"));
	holt_batch_delete(batch, S("a"));
	holt_batch_require_prefix_empty(batch, S("a"));
	holt_batch_put(batch, S("a"), S("new"));
	expect(-EEXIST, 0);
	holt_batch_delete(batch, S("a"));
	holt_batch_require_prefix_empty(batch, S("a"));
	holt_batch_put(batch, S("b"), S("1"));
	holt_batch_put_if_absent(batch, S("b"), S("2"));
	expect(-EEXIST, 3);
	ck_ok(put("a2", "old"));
	holt_batch_delete(batch, S("a"));
	holt_batch_require_prefix_empty(batch, S("a"));
	holt_batch_put(batch, S("b"), S("1"));
	holt_batch_put_if_absent(batch, S("b"), S("2"));
	expect(-ENOTEMPTY, 1);
	/* Deleted behind the guard. */
	holt_batch_require_prefix_empty(batch, S("a"));
	holt_batch_delete(batch, S("a"));
	holt_batch_delete(batch, S("a2"));
	holt_batch_rename(batch, S("x"), S("y"), 0);
	expect(-ENOTEMPTY, 0);
	ck_assert_str_eq(list_all(), "a=old a2=old");
}
END_TEST

START_TEST(batch_may_be_committed_again)
{
	holt_batch_put_if_absent(batch, S("a"), S("1"));
	ck_ok(holt_batch_commit(batch, HOLT_SYNC));
	ck_assert_int_eq(holt_batch_commit(batch, HOLT_LOSSY), -EEXIST);
	ck_ok(holt_delete(holt, S("a")));
	ck_ok(holt_batch_commit(batch, HOLT_PROCESS));
	ck_assert_int_eq(holt_batch_commit(batch, (enum holt_durability)7), -EINVAL);
	holt_batch_reset(batch);
	expect(0, SIZE_MAX);
	ck_assert_str_eq(list_all(), "a=1");
}
END_TEST

START_TEST(batch_remembers_what_could_not_be_added)
{
	ck_ok(put("a", "old"));
	holt_batch_put(batch, S("a"), S("new"));
	holt_batch_put(batch, "", 0, S("v"));
	holt_batch_put(batch, large, HOLT_KEY_MAX + 1, S("v"));
	expect(-EINVAL, 1);
	holt_batch_put(batch, large, HOLT_KEY_MAX + 1, S("v"));
	expect(-ENAMETOOLONG, 0);
	holt_batch_put(batch, S("a"), large, sizeof(large));
	expect(-E2BIG, 0);
	holt_batch_put(batch, S("a"), NULL, 1);
	expect(-EINVAL, 0);
	holt_batch_rename(batch, S("a"), S("b"), 77);
	expect(-EINVAL, 0);
	holt_batch_delete(batch, NULL, 1);
	expect(-EINVAL, 0);
	holt_batch_require_prefix_empty(batch, "", 0);
	expect(-EINVAL, 0);
	holt_batch_move_prefix(batch, S("a"), "", 0);
	expect(-EINVAL, 0);
	holt_batch_drop_prefix(batch, "", 0);
	expect(-EINVAL, 0);
	ck_assert_int_eq(holt_batch_create(NULL, &batch), -EINVAL);
	ck_assert_int_eq(holt_batch_commit(NULL, HOLT_DEFAULT), -EINVAL);
	ck_assert_str_eq(list_all(), "a=old");
}
END_TEST

START_TEST(batch_longer_than_a_record_is_refused)
{
	char key[] = "key 00";

	for (unsigned i = 0; i < 80; i++) {
		key[4] = (char)('0' + i / 10);
		key[5] = (char)('0' + i % 10);
		holt_batch_put(batch, key, 6, large, HOLT_VALUE_MAX);
	}
	ck_assert_int_eq(holt_batch_commit(batch, HOLT_DEFAULT), -E2BIG);
	holt_batch_reset(batch);
	ck_assert_str_eq(list_all(), "");
	holt_batch_put(batch, S("a"), S("1"));
	expect(0, SIZE_MAX);
	/* 2 MiB are the limit: 34 keys of 60 000 bytes are less, 35 more. */
	for (unsigned count = 34; count <= 35; count++) {
		for (unsigned i = 0; i < count; i++) {
			large[0] = (char)('a' + i);
			holt_batch_delete(batch, large, 60000);
		}
		expect(count == 34 ? 0 : -E2BIG, SIZE_MAX);
	}
}
END_TEST

START_TEST(batch_moves_and_drops_come_last_and_lie_apart_from_keys)
{
	ck_ok(put("a/1", "1"));
	ck_ok(put("b/1", "2"));
	holt_batch_move_prefix(batch, S("a/"), S("c/"));
	holt_batch_put(batch, S("x"), S("1"));
	expect(-EINVAL, 1);
	holt_batch_put(batch, S("a/2"), S("1"));
	holt_batch_move_prefix(batch, S("a/"), S("c/"));
	expect(-EINVAL, 1);
	holt_batch_require_absent(batch, S("c/1"));
	holt_batch_move_prefix(batch, S("a/"), S("c/"));
	expect(-EINVAL, 1);
	holt_batch_require_prefix_empty(batch, S("c/x"));
	holt_batch_move_prefix(batch, S("a/"), S("c/"));
	expect(-EINVAL, 1);
	holt_batch_move_prefix(batch, S("x/"), S("y/"));
	expect(-ENOENT, 0);
	holt_batch_put(batch, S("x"), S("1"));
	holt_batch_move_prefix(batch, S("b/"), S("d/"));
	holt_batch_move_prefix(batch, S("a/"), S("d/"));
	ck_assert_int_lt(holt_batch_commit(batch, HOLT_DEFAULT), 0);
	ck_assert_uint_eq(holt_batch_failed(batch), 2);
	holt_batch_reset(batch);
	ck_assert_str_eq(list_all(), "a/1=1 b/1=2");
	/* Exchange over a third place, and a tree replaced. */
	holt_batch_put(batch, S("x"), S("1"));
	holt_batch_drop_prefix(batch, S("b/"));
	holt_batch_move_prefix(batch, S("a/"), S("b/"));
	holt_batch_drop_prefix(batch, S("nothing/"));
	expect(0, SIZE_MAX);
	ck_assert_str_eq(list_all(), "b/1=1 x=1");
}
END_TEST

START_TEST(batch_prefix_guards_see_what_the_batch_did)
{
	ck_ok(put("d/1", "1"));
	ck_ok(put("d/2", "2"));
	holt_batch_require_prefix_empty(batch, S("d/"));
	expect(-ENOTEMPTY, 0);
	holt_batch_delete(batch, S("d/1"));
	holt_batch_require_prefix_empty(batch, S("d/"));
	expect(-ENOTEMPTY, 1);
	holt_batch_put(batch, S("e/1"), S("1"));
	holt_batch_require_prefix_empty(batch, S("e/"));
	expect(-ENOTEMPTY, 1);
	/* A delete behind the guard does not help it. */
	holt_batch_require_prefix_empty(batch, S("d/"));
	holt_batch_delete(batch, S("d/1"));
	holt_batch_delete(batch, S("d/2"));
	expect(-ENOTEMPTY, 0);
	holt_batch_require_prefix_empty(batch, S("e/"));
	holt_batch_require_present(batch, S("e/1"));
	expect(-ENOENT, 1);
	holt_batch_delete(batch, S("d/1"));
	holt_batch_require_prefix_empty(batch, S("d/1"));
	holt_batch_put(batch, S("d/1"), S("again"));
	expect(-EINVAL, 2);
	ck_assert_str_eq(list_all(), "d/1=1 d/2=2");
	holt_batch_delete(batch, S("d/1"));
	holt_batch_delete(batch, S("d/2"));
	holt_batch_require_prefix_empty(batch, S("d/"));
	holt_batch_put_if_absent(batch, S("d"), S("file"));
	holt_batch_put(batch, S("d/new"), S("3"));
	expect(0, SIZE_MAX);
	ck_assert_str_eq(list_all(), "d=file d/new=3");
}
END_TEST

/* ---- threads ------------------------------------------------------------------------- */

#define ROUNDS 3000

/* Takes the token from wherever it is to the next place. */
static void *carry(void *ctx)
{
	struct holt_batch *own;
	const char *places = "pqrs";
	unsigned *carried = ctx;

	ck_ok(holt_batch_create(holt, &own));
	for (unsigned i = 0; i < ROUNDS; i++) {
		const char *from = &places[i % 4], *to = &places[(i + 1) % 4];
		int err;

		holt_batch_reset(own);
		if (i % 2) {
			holt_batch_rename(own, from, 1, to, 1, 0);
			err = holt_batch_commit(own, HOLT_LOSSY);
		} else {
			err = holt_rename(holt, from, 1, to, 1, 0);
		}
		ck_assert(err == 0 || err == -ENOENT);
		*carried += err == 0;
	}
	holt_batch_destroy(own);
	return NULL;
}

START_TEST(batch_renames_of_threads_never_lose_or_double_a_value)
{
	pthread_t threads[3];
	unsigned carried[3] = {0};

	ck_ok(put("p", "token"));
	for (unsigned i = 0; i < 3; i++)
		ck_ok(pthread_create(&threads[i], NULL, carry, &carried[i]));
	for (unsigned i = 0; i < 3; i++)
		ck_ok(pthread_join(threads[i], NULL));
	ck_assert_uint_gt(carried[0] + carried[1] + carried[2], 0);
	ck_assert_uint_eq(strlen(list_all()), strlen("p=token"));
	ck_assert_str_eq(list_all() + 1, "=token");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("holt_batch");
	TCase *tcase = tcase_create("batches");

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, batch_operations_see_those_before_them);
	tcase_add_test(tcase, batch_failing_at_an_operation_changes_nothing);
	tcase_add_test(tcase, batch_says_which_operation_fails_first_whatever_the_reason);
	tcase_add_test(tcase, batch_may_be_committed_again);
	tcase_add_test(tcase, batch_remembers_what_could_not_be_added);
	tcase_add_test(tcase, batch_longer_than_a_record_is_refused);
	tcase_add_test(tcase, batch_moves_and_drops_come_last_and_lie_apart_from_keys);
	tcase_add_test(tcase, batch_prefix_guards_see_what_the_batch_did);
	tcase_add_test(tcase, batch_renames_of_threads_never_lose_or_double_a_value);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
