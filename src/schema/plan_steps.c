/*
 * plan_steps: the struct hv_plan: the statements that hv_migrate() would run.
 */
#include "schema/plan_steps.h"

#include <stdlib.h>

#define EXCERPT 80

hv_status hvi_plan_steps_add(hv_plan *plan, const hv_migrations *migrations, size_t file,
                             size_t shards, hv_error **error) {
    const hvi_sql *sql = &migrations->files[file].sql;
    void *grown = realloc(plan->steps, (plan->count + sql->count + 1) * sizeof *plan->steps);
    if (grown == NULL)
        return hvi_no_memory(error);
    plan->steps = grown;
    for (size_t i = 0; i < sql->count; i++) {
        hvi_buffer statement = HVI_BUFFER_EMPTY;
        hvi_sql_excerpt(sql, i, EXCERPT, &statement);
        char *text = hvi_buffer_take(&statement);
        if (text == NULL)
            return hvi_no_memory(error);
        plan->steps[plan->count++] = (hvi_plan_step){
            .step = {.file = file,
                     .line = sql->statements[i].line,
                     .statement = text,
                     .shards = shards,
                     .bytes = -1},
            .statement = text,
            .number = i,
        };
    }
    return HV_OK;
}

void hvi_plan_step_reset(hvi_plan_step *step) {
    free(step->relation);
    free(step->warning);
    step->relation = step->warning = NULL;
    step->step.relation = step->step.lock = step->step.warning = NULL;
    step->step.rewrites = step->step.reads = false;
}

void hv_plan_free(hv_plan *plan) {
    if (plan == NULL)
        return;
    for (size_t i = 0; i < plan->count; i++) {
        hvi_plan_step_reset(&plan->steps[i]);
        free(plan->steps[i].statement);
    }
    free(plan->steps);
    free(plan);
}

const hv_plan_step *hv_plan_at(const hv_plan *plan, size_t index) {
    return index < plan->count ? &plan->steps[index].step : NULL;
}
