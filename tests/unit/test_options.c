/*
 * The daemon's command line: every option with good and bad values, what is passed
 * on, what is ignored, and that refusals name what they refuse.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/options.h"
#include "tests/support/support.h"

static struct options options;
static char message[256];

static void teardown(void)
{
	options_fini(&options);
}

/* "holtfs" and the words up to NULL. */
static int parse(const char *const *words)
{
	const char *argv[16] = {"holtfs"};
	int argc = 1;

	message[0] = '\0';
	for (; words[argc - 1]; argc++)
		argv[argc] = words[argc - 1];
	argv[argc] = NULL;
	options_fini(&options);
	return options_parse(argc, (char **)argv, &options, message, sizeof(message));
}

#define parse_words(...) parse((const char *const[]){__VA_ARGS__, NULL})
#define parse_o(list)	 parse_words("vol", "mnt", "-o", list)

#define ck_refused(call, text)                                                       \
	do {                                                                         \
		ck_assert_int_eq((call), -EINVAL);                                   \
		ck_assert_msg(strstr(message, (text)), "message: %s", message);      \
	} while (0)

START_TEST(volume_and_mount_point_are_the_operands)
{
	ck_ok(parse_words("vol", "mnt"));
	ck_assert_str_eq(options.volume, "vol");
	ck_assert_str_eq(options.mountpoint, "mnt");
	ck_assert(!options.is_foreground);
	ck_assert(!options.is_read_only);
	ck_assert_uint_eq(options.commit_interval_ms, 0);
	ck_assert_uint_eq(options.cache_bytes, 0);
	ck_assert_uint_eq(options.max_background, OPTIONS_MAX_BACKGROUND);
	ck_assert_int_eq(options.io, DEVICE_IO_AUTO);
	ck_assert_ptr_null(options.source);
	ck_assert_ptr_null(options.kernel_flags);
}
END_TEST

START_TEST(options_may_stand_before_between_and_behind_operands)
{
	ck_ok(parse_words("-f", "vol", "-oro", "mnt", "-o", "noatime"));
	ck_assert_str_eq(options.volume, "vol");
	ck_assert_str_eq(options.mountpoint, "mnt");
	ck_assert(options.is_foreground);
	ck_assert(options.is_read_only);
	ck_assert(options.has_no_atime);
}
END_TEST

START_TEST(letters_may_stand_together)
{
	ck_ok(parse_words("-fo", "ro", "vol", "mnt"));
	ck_assert(options.is_foreground);
	ck_assert(options.is_read_only);
	ck_ok(parse_words("-foro", "vol", "mnt"));
	ck_assert(options.is_read_only);
}
END_TEST

START_TEST(debug_implies_foreground)
{
	ck_ok(parse_words("-d", "vol", "mnt"));
	ck_assert(options.is_debug);
	ck_assert(options.is_foreground);
}
END_TEST

START_TEST(two_dashes_end_the_options)
{
	ck_ok(parse_words("--", "-vol", "--mnt"));
	ck_assert_str_eq(options.volume, "-vol");
	ck_assert_str_eq(options.mountpoint, "--mnt");
}
END_TEST

START_TEST(help_and_version_need_no_operands)
{
	ck_ok(parse_words("--help"));
	ck_assert(options.wants_help);
	ck_ok(parse_words("-h"));
	ck_assert(options.wants_help);
	ck_ok(parse_words("--version"));
	ck_assert(options.wants_version);
	ck_ok(parse_words("-V"));
	ck_assert(options.wants_version);
}
END_TEST

START_TEST(operands_missing_or_too_many_are_refused)
{
	ck_refused(parse((const char *const[]){NULL}), "volume");
	ck_refused(parse_words("vol"), "mount point");
	ck_refused(parse_words("vol", "mnt", "third"), "third");
	ck_refused(parse_words("", "mnt"), "empty");
}
END_TEST

START_TEST(unknown_options_are_refused_by_name)
{
	ck_refused(parse_words("vol", "mnt", "-x"), "-x");
	ck_refused(parse_words("vol", "mnt", "--frobnicate"), "--frobnicate");
	ck_refused(parse_o("ro,frobnicate,rw"), "frobnicate");
	ck_refused(parse_o("frobnicate=3"), "frobnicate=3");
	ck_refused(parse_o("rox"), "rox");
	ck_refused(parse_o("commit"), "commit");
	ck_refused(parse_words("vol", "mnt", "-o"), "-o");
}
END_TEST

START_TEST(later_words_win_over_earlier_opposites)
{
	ck_ok(parse_o("ro,rw"));
	ck_assert(!options.is_read_only);
	ck_ok(parse_o("rw,ro"));
	ck_assert(options.is_read_only);
	ck_ok(parse_o("noatime,relatime"));
	ck_assert(!options.has_no_atime);
}
END_TEST

START_TEST(commit_takes_seconds_with_fraction)
{
	static const struct {
		const char *text;
		uint32_t ms;
	} good[] = {
	    {"commit=1", 1000},
	    {"commit=5", 5000},
	    {"commit=0.5", 500},
	    {"commit=2.25", 2250},
	    {"commit=0.001", 1},
	    {"commit=3600", 3600000},
	    {"commit=1.", 1000},
	    {"commit=0.1239", 123},
	};
	static const char *const bad[] = {
	    "commit=",
	    "commit=0",
	    "commit=0.0001",
	    "commit=-1",
	    "commit=x",
	    "commit=1x",
	    "commit=.5",
	    "commit=3600.001",
	    "commit=3601",
	    "commit=99999999999999999999",
	    "commit=1e3",
	    "commit=0x10",
	    "commit=1.5.5",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_ok(parse_o(good[i].text));
		ck_assert_uint_eq(options.commit_interval_ms, good[i].ms);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_refused(parse_o(bad[i]), bad[i]);
}
END_TEST

START_TEST(cache_takes_a_size_with_unit)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
	    {"cache=8388608", 8ull << 20},
	    {"cache=8192K", 8ull << 20},
	    {"cache=512M", 512ull << 20},
	    {"cache=512m", 512ull << 20},
	    {"cache=3G", 3ull << 30},
	    {"cache=1T", 1ull << 40},
	};
	static const char *const bad[] = {
	    "cache=",
	    "cache=M",
	    "cache=0",
	    "cache=8191K",
	    "cache=-1G",
	    "cache=1Q",
	    "cache=512MB",
	    "cache=1.5G",
	    "cache=99999999999999999999",
	    "cache=99999999T",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_ok(parse_o(good[i].text));
		ck_assert_uint_eq(options.cache_bytes, good[i].bytes);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_refused(parse_o(bad[i]), bad[i]);
}
END_TEST

START_TEST(io_takes_three_words)
{
	ck_ok(parse_o("io=uring"));
	ck_assert_int_eq(options.io, DEVICE_IO_URING);
	ck_ok(parse_o("io=sync"));
	ck_assert_int_eq(options.io, DEVICE_IO_SYNC);
	ck_ok(parse_o("io=uring,io=auto"));
	ck_assert_int_eq(options.io, DEVICE_IO_AUTO);
	ck_refused(parse_o("io=aio"), "auto, uring or sync");
	ck_refused(parse_o("io="), "auto, uring or sync");
}
END_TEST

START_TEST(max_background_takes_a_small_number)
{
	ck_ok(parse_o("max_background=1"));
	ck_assert_uint_eq(options.max_background, 1);
	ck_ok(parse_o("max_background=65535"));
	ck_assert_uint_eq(options.max_background, 65535);
	ck_refused(parse_o("max_background=0"), "max_background=0");
	ck_refused(parse_o("max_background=65536"), "max_background=65536");
	ck_refused(parse_o("max_background=12k"), "max_background=12k");
}
END_TEST

START_TEST(source_may_hold_escaped_commas)
{
	ck_ok(parse_o("fsname=my\\,volume,ro"));
	ck_assert_str_eq(options.source, "my,volume");
	ck_assert(options.is_read_only);
	ck_ok(parse_o("fsname=first,fsname=a\\\\b"));
	ck_assert_str_eq(options.source, "a\\b");
	ck_refused(parse_o("fsname="), "fsname=");
}
END_TEST

START_TEST(mount_flags_go_on_in_order)
{
	ck_ok(parse_o("nosuid,ro,nodev,noexec,exec"));
	ck_assert_str_eq(options.kernel_flags, "nosuid,nodev,noexec,exec");
	ck_ok(parse_words("vol", "mnt", "-o", "suid", "-o", "dev"));
	ck_assert_str_eq(options.kernel_flags, "suid,dev");
}
END_TEST

START_TEST(words_of_mount_and_fstab_are_taken_silently)
{
	ck_ok(parse_o("defaults,auto,noauto,nofail,_netdev,user,users,nouser,"
		      "x-systemd.automount,X-mount.mkdir,comment=hello,relatime,"
		      "default_permissions,async"));
	ck_assert_ptr_null(options.kernel_flags);
	ck_ok(parse_o(""));
	ck_ok(parse_o(",,ro,"));
	ck_assert(options.is_read_only);
}
END_TEST

START_TEST(allow_other_is_off_unless_given)
{
	ck_ok(parse_o("rw"));
	ck_assert(!options.has_allow_other);
	ck_ok(parse_o("allow_other"));
	ck_assert(options.has_allow_other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("options");
	TCase *tcase = tcase_create("options");

	tcase_add_checked_fixture(tcase, NULL, teardown);
	tcase_add_test(tcase, volume_and_mount_point_are_the_operands);
	tcase_add_test(tcase, options_may_stand_before_between_and_behind_operands);
	tcase_add_test(tcase, letters_may_stand_together);
	tcase_add_test(tcase, debug_implies_foreground);
	tcase_add_test(tcase, two_dashes_end_the_options);
	tcase_add_test(tcase, help_and_version_need_no_operands);
	tcase_add_test(tcase, operands_missing_or_too_many_are_refused);
	tcase_add_test(tcase, unknown_options_are_refused_by_name);
	tcase_add_test(tcase, later_words_win_over_earlier_opposites);
	tcase_add_test(tcase, commit_takes_seconds_with_fraction);
	tcase_add_test(tcase, cache_takes_a_size_with_unit);
	tcase_add_test(tcase, io_takes_three_words);
	tcase_add_test(tcase, max_background_takes_a_small_number);
	tcase_add_test(tcase, source_may_hold_escaped_commas);
	tcase_add_test(tcase, mount_flags_go_on_in_order);
	tcase_add_test(tcase, words_of_mount_and_fstab_are_taken_silently);
	tcase_add_test(tcase, allow_other_is_off_unless_given);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
