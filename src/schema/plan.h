/*
 * plan: find out what hv_migrate() would run where, and what each statement locks.
 */
#ifndef HVI_SCHEMA_PLAN_H
#define HVI_SCHEMA_PLAN_H

#include "pool/router.h"
#include "schema/migrations.h"

/* See hv_migrate_plan(). */
hv_status hvi_migrate_plan(hvi_router *router, const hv_migrations *migrations,
                           const hv_rollout *rollout, hv_plan **plan, hv_error **error);

#endif
