/*
 * sequence_cache: what a session knows of the sequences that it makes keys with.
 *
 * To look a sequence up in the catalogue, lock it and check rights takes longer than to make a key.
 * So this happens once a transaction, and again when PostgreSQL says that something has changed.
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
    Oid relid;                      /* of the table of them all, in which this is the key */
    bool known;                     /* the fields below hold, unless the transaction is another */
    LocalTransactionId transaction; /* in which we locked it */
    Oid user;                       /* who has one of the rights `any_of` */
    AclMode any_of;
    bool temporary;
    bool needs_wal;
    RelFileLocator file;
    bool recorded;         /* this session has written a record of `file` in the log */
    Buffer buffer;         /* in which its page was last; it may have gone elsewhere since */
    XLogRecPtr own_record; /* the last that `transaction` has written for it */
} hvi_sequence;

/*
 * The sequence with this OID, locked until the end of the transaction against being dropped or
 * altered by others. The present user has one of the rights `any_of` on it. Valid until the next
 * call. Throws if there is none, it is no sequence or cannot make keys.
 */
hvi_sequence *hvi_sequence_open(Oid relid, AclMode any_of);

/* The buffer that holds its only page, pinned. */
Buffer hvi_sequence_pin(hvi_sequence *sequence);

/* Its name, for messages. */
const char *hvi_sequence_name(const hvi_sequence *sequence);

#endif
