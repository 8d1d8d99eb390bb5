/*
 * plan_steps: the struct hv_plan: the statements that hv_migrate() would run.
 */
#ifndef HVI_PLAN_STEPS_H
#define HVI_PLAN_STEPS_H

#include "schema/migrations.h"

typedef struct hvi_plan_step {
    hv_plan_step step; /* its texts are the next ones; its lock is static */
    char *statement;   /* these three owned */
    char *relation;
    char *warning;
    size_t number; /* of the statement in its file */
} hvi_plan_step;

struct hv_plan {
    hvi_plan_step *steps; /* owned */
    size_t count;
};

/* Add a step for each statement of a file; so many shards need it. HV_NO_MEMORY. */
hv_status hvi_plan_steps_add(hv_plan *plan, const hv_migrations *migrations, size_t file,
                             size_t shards, hv_error **error);

/* Forget what the step does. */
void hvi_plan_step_reset(hvi_plan_step *step);

#endif
