/*
 * ledger_status: the struct hv_ledger: the ledgers of all shards, compared with a directory.
 */
#ifndef HVI_LEDGER_STATUS_H
#define HVI_LEDGER_STATUS_H

#include "schema/crew.h"
#include "schema/migrations.h"

/* See hv_migrate_status(). */
hv_status hvi_migrate_status(hvi_router *router, const hv_migrations *migrations,
                             const hv_rollout *rollout, hv_ledger **ledger, hv_error **error);

#endif
