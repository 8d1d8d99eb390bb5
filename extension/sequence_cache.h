/*
 * sequence_cache: what a session has checked about the sequences that it makes keys with.
 *
 * Looking a sequence up in the catalogue, locking it and checking rights takes longer than making a
 * key. So this is done once in a transaction, and again when PostgreSQL announces a change.
 */
#ifndef HVI_SEQUENCE_CACHE_H
#define HVI_SEQUENCE_CACHE_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "storage/buf.h"
#include "storage/lock.h"
#include "utils/acl.h"

#include "compat.h"

typedef struct hvi_sequence {
    Oid relid;                      /* the key in the table of all sequences */
    bool known;                     /* the fields below are valid, except in another transaction */
    LocalTransactionId transaction; /* the one that holds our lock */
    Oid user;                       /* the user who has one of the rights `any_of` */
    AclMode any_of;
    bool temporary;
    bool needs_wal;
    RelFileLocator file;
    bool recorded;         /* this session has written a record of `file` in the log */
    Buffer buffer;         /* where its page was last; it may have moved since */
    XLogRecPtr own_record; /* the last that `transaction` has written for it */
} hvi_sequence;

/*
 * Get the sequence with this OID, locked until the end of the transaction against being dropped or
 * altered by others. The current user has one of the rights `any_of` on it. Valid until the next
 * call. Throws an error if there is no such sequence or it cannot make keys.
 */
hvi_sequence *hvi_sequence_open(Oid relid, AclMode any_of);

/* The buffer that holds its only page, pinned. */
Buffer hvi_sequence_pin(hvi_sequence *sequence);

/* Its name, for messages. */
const char *hvi_sequence_name(const hvi_sequence *sequence);

#endif
