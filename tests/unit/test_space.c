/*
 * core/space: states of blocks, who may take which, the two maps and their
 * checkpoints, damage.  The parts are in space_*.c beside this file.
 */
#include "config.h"

#include "tests/unit/space_volume.h"

static void add_part(Suite *suite, const char *name, void (*add_tests)(TCase *t))
{
	TCase *part = tcase_create(name);

	add_tests(part);
	suite_add_tcase(suite, part);
}

int main(void)
{
	Suite *suite = suite_create("space");

	add_part(suite, "states", add_state_tests);
	add_part(suite, "allocation", add_allocation_tests);
	add_part(suite, "model", add_model_tests);
	add_part(suite, "maps", add_map_tests);
	add_part(suite, "damage", add_damage_tests);
	return support_run(suite);
}
