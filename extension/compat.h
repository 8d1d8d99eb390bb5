/*
 * compat: names that differ among the versions of PostgreSQL that we build with, 13 and later.
 *
 * The code uses the newest version's names; here the older ones get them.
 */
#ifndef HVI_COMPAT_H
#define HVI_COMPAT_H

#include "postgres.h"

#include "storage/proc.h"

#if PG_VERSION_NUM < 130000
#error "hypervault needs PostgreSQL 13 or later"
#endif

#if PG_VERSION_NUM < 160000
#define RelFileLocator              RelFileNode
#define rd_locator                  rd_node
#define rd_newRelfilelocatorSubid   rd_newRelfilenodeSubid
#define rd_firstRelfilelocatorSubid rd_firstRelfilenodeSubid
#define HVI_SEQUENCE_RECORD(the_locator) \
    { .node = (the_locator) }
#else
#define HVI_SEQUENCE_RECORD(the_locator) \
    { .locator = (the_locator) }
#endif

/* The record of a sequence in the write-ahead log. */
#include "commands/sequence.h"
#if PG_VERSION_NUM >= 190000
#include "commands/sequence_xlog.h"
#endif

/* The number of the current transaction among this session's. */
static inline LocalTransactionId hvi_transaction(void) {
#if PG_VERSION_NUM < 170000
    return MyProc->lxid;
#else
    return MyProc->vxid.lxid;
#endif
}

#endif
