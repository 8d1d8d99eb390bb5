/*
 * sequence_cache: what a session has checked about the sequences that it makes keys with.
 *
 * Invariants: a sequence that is `known` was locked in `transaction`, and PostgreSQL has not
 * announced a change of it since; nor has it since a sequence is `recorded`, so `file` is still the
 * one for which this session has written a record. No reference to PostgreSQL's relation cache, and
 * no pin, is kept from one call to the next.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "sequence_cache.h"
#include "sequence_state.h"

static HTAB *sequences;           /* all that this session has used */
static hvi_sequence *last_opened; /* most often the next one too */
static uint64 invalidations;      /* how many times something was forgotten */

/* ---- forgetting ---- */

static void forget(hvi_sequence *sequence) {
    sequence->known = false;
    sequence->recorded = false;
}

static void forget_all(void) {
    HASH_SEQ_STATUS scan;
    hvi_sequence *sequence;
    hash_seq_init(&scan, sequences);
    while ((sequence = hash_seq_search(&scan)) != NULL)
        forget(sequence);
}

/* A relation, or the rights on it, changed; InvalidOid means all relations. */
static void relation_changed(Datum argument, Oid relid) {
    invalidations++;
    if (!OidIsValid(relid)) {
        forget_all();
        return;
    }
    hvi_sequence *sequence = hash_search(sequences, &relid, HASH_FIND, NULL);
    if (sequence != NULL)
        forget(sequence);
}

/* Superusers or the membership of roles changed. */
static void roles_changed(Datum argument, int cache, uint32 hash) {
    invalidations++;
    forget_all();
}

static void create_table(void) {
    HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(hvi_sequence)};
    sequences = hash_create("hypervault sequences", 16, &control, HASH_ELEM | HASH_BLOBS);
    CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
    CacheRegisterSyscacheCallback(AUTHOID, roles_changed, (Datum) 0);
    CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, (Datum) 0);
}

/* ---- looking up ---- */

static _Noreturn void fail_no_sequence(Oid relid) {
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE),
            errmsg("sequence with OID %u does not exist", relid),
            errhint("It was dropped; functions and column defaults may still name its old OID."));
}

static _Noreturn void fail_not_sequence(const char *name) {
    ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a sequence", name));
}

/* Before locking anything: is it a sequence at all, and may this user have keys from it? */
static void require_sequence(Oid relid, AclMode any_of) {
    char kind = get_rel_relkind(relid);
    if (kind == '\0')
        fail_no_sequence(relid);
    if (kind != RELKIND_SEQUENCE)
        fail_not_sequence(get_rel_name(relid));
    if (pg_class_aclcheck(relid, GetUserId(), any_of) != ACLCHECK_OK)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_SEQUENCE, get_rel_name(relid));
}

static void require_definition(Relation relation) {
    Oid relid = RelationGetRelid(relation);
    HeapTuple tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(relid));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for sequence %u", relid);
    const FormData_pg_sequence *definition = (Form_pg_sequence) GETSTRUCT(tuple);
    const char *problem = NULL;
    if (definition->seqincrement != 1)
        problem = "Its increment is not 1.";
    else if (definition->seqmax < HVI_SEQUENCE_MAX)
        problem = "Its maximum value is too small.";
    else if (definition->seqcycle)
        problem = "It starts again after its maximum value (CYCLE).";
    ReleaseSysCache(tuple);
    if (problem != NULL)
        ereport(
            ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("sequence \"%s\" cannot make keys", RelationGetRelationName(relation)),
            errdetail("%s", problem),
            errhint("ALTER SEQUENCE %s AS bigint INCREMENT 1 NO MAXVALUE NO CYCLE;",
                    quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
                                               RelationGetRelationName(relation))));
}

/*
 * Keys come from a file that stays: a rollback would remove a file that this transaction has made,
 * and the former file would give its keys once more. If the sequence itself is new, and did not get
 * the file deeper in subtransactions, both vanish together and there is no former file.
 */
static void require_lasting_file(Relation relation) {
    if (relation->rd_firstRelfilelocatorSubid == InvalidSubTransactionId ||
        (relation->rd_createSubid != InvalidSubTransactionId &&
         relation->rd_createSubid == relation->rd_newRelfilelocatorSubid))
        return;
    ereport(
        ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
        errmsg("sequence \"%s\" was altered in this transaction",
               RelationGetRelationName(relation)),
        errdetail("A rollback would undo that, and then keys made meanwhile would be made again."),
        errhint("Commit before you make keys, and do not restart a sequence that makes keys."));
}

/* Lock as nextval() does: in the name of the whole transaction, so that a rolled back savepoint
 * leaves the lock in place. */
static void lock_for_transaction(Oid relid) {
    ResourceOwner owner = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    LockRelationOid(relid, RowExclusiveLock);
    CurrentResourceOwner = owner;
}

static void learn(hvi_sequence *sequence) {
    sequence->known = false;
    if (sequence->transaction != hvi_transaction()) {
        lock_for_transaction(sequence->relid);
        sequence->transaction = hvi_transaction();
        sequence->own_record = InvalidXLogRecPtr;
    }

    uint64 before = invalidations;
    Relation relation = try_relation_open(sequence->relid, NoLock);
    if (relation == NULL) /* dropped while we waited for the lock */
        fail_no_sequence(sequence->relid);
    if (relation->rd_rel->relkind != RELKIND_SEQUENCE)
        fail_not_sequence(RelationGetRelationName(relation));
    require_definition(relation);
    require_lasting_file(relation);
    sequence->temporary = relation->rd_islocaltemp;
    sequence->needs_wal = RelationNeedsWAL(relation);
    sequence->file = relation->rd_locator;
    relation_close(relation, NoLock);
    /* If something changed while we looked, we have the lock, and what we saw will do for now. */
    sequence->known = before == invalidations;
}

static hvi_sequence *find(Oid relid) {
    if (sequences == NULL)
        create_table();
    bool found;
    hvi_sequence *sequence = hash_search(sequences, &relid, HASH_ENTER, &found);
    if (!found)
        *sequence = (hvi_sequence){.relid = relid};
    return sequence;
}

hvi_sequence *hvi_sequence_open(Oid relid, AclMode any_of) {
    hvi_sequence *sequence = last_opened;
    if (likely(sequence != NULL && sequence->relid == relid && sequence->known &&
               sequence->transaction == hvi_transaction() && sequence->any_of == any_of &&
               sequence->user == GetUserId()))
        return sequence;

    require_sequence(relid, any_of);
    sequence = find(relid);
    if (!sequence->known || sequence->transaction != hvi_transaction())
        learn(sequence);
    sequence->user = GetUserId();
    sequence->any_of = any_of;
    last_opened = sequence;
    return sequence;
}

/* ---- using ---- */

Buffer hvi_sequence_pin(hvi_sequence *sequence) {
#if PG_VERSION_NUM >= 140000
    /* Not for temporary ones: the first releases of 14 look for those among the shared buffers. */
    if (BufferIsValid(sequence->buffer) && !sequence->temporary &&
        ReadRecentBuffer(sequence->file, MAIN_FORKNUM, 0, sequence->buffer))
        return sequence->buffer;
#endif
    Relation relation = relation_open(sequence->relid, NoLock);
    sequence->buffer = ReadBuffer(relation, 0);
    relation_close(relation, NoLock);
    return sequence->buffer;
}

const char *hvi_sequence_name(const hvi_sequence *sequence) {
    const char *name = get_rel_name(sequence->relid);
    return name != NULL ? name : "?";
}
