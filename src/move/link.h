/*
 * link: a session of a move's own on one of its servers, outside of the pool.
 *
 * It has no limits in time but the caller's deadlines, is in no store's way, and holds the shard's
 * advisory lock for as long as it is open. It is never opened again behind its user's back: what it
 * held, a lock or a transaction, would be lost without a word. After a failure hvi_link_is_open()
 * says whether it can still be used.
 */
#ifndef HVI_LINK_H
#define HVI_LINK_H

#include "base/buffer.h"
#include "pool/router.h"

typedef struct hvi_link {
    hvi_server *server;   /* not owned */
    hvi_session *session; /* owned; NULL: closed */
    hvi_script script;    /* between hvi_link_start() and the end: what is under way */
    char *sql;            /* owned: its text; NULL: nothing is under way */
    int pid;              /* of its server process */
    bool is_pooled;       /* … which is another one than libpq was given */
} hvi_link;

/* Open it (it must be closed): connected, checked as the store's sessions are, set up. Errors:
 * those of hvi_opening_finish(), but HV_UNAVAILABLE where that has HV_TIMEOUT. */
hv_status hvi_link_open(hvi_link *link, hvi_server *server, int64_t deadline, hv_error **error);

/* What is under way is cancelled if the server answers. Closing a closed one does nothing. */
void hvi_link_close(hvi_link *link);

/* In a forked child, instead: leave the parent's connection alone. */
void hvi_link_disown(hvi_link *link);

bool hvi_link_is_open(const hvi_link *link);

/* Does a pooler share the connections of a link that is_pooled with others, transaction by
 * transaction? A lock of the link would then be nobody's. Errors: HV_INVALID: it does. HV_OK: that
 * was not to be seen. */
hv_status hvi_link_check_pooler(hvi_link *link, int64_t deadline, hv_error **error);
#define HVI_LINK_POOLER_HINT                                                            \
    "Give host and port of PostgreSQL itself where shards are moved, or move_host and " \
    "move_port for the other servers."

/*
 * The server's workers that copy rows take them as text in the client_encoding that the link's role
 * has by default, and the other server sends them in that of the database. Are they the same?
 * Errors: HV_INVALID: they are not. HV_OK also if that cannot be seen, because the environment or a
 * program's own connector asks for one at each login.
 */
hv_status hvi_link_check_encoding(hvi_link *link, int64_t deadline, hv_error **error);

/* Run SQL: several statements, of which *result (it may be NULL) is the last one's, in text. No
 * outcome is unknown to its caller: what it says can be said again, or looked at. So a lost
 * connection is HV_UNAVAILABLE, and so is a deadline that has passed; the link is closed then. A
 * transaction that the script itself has begun is rolled back if it is refused. */
hv_status hvi_link_run(hvi_link *link, const char *sql, int64_t deadline, PGresult **result,
                       hv_error **error);

/* The same for a text in a buffer, which is emptied and freed. */
hv_status hvi_link_say(hvi_link *link, hvi_buffer *sql, int64_t deadline, PGresult **result,
                       hv_error **error);

/* The same for what takes long, step by step: start it, and call the second until it returns an
 * error or sets *done. A deadline that passes changes nothing: the server goes on. */
hv_status hvi_link_start(hvi_link *link, hvi_buffer *sql, hv_error **error);
hv_status hvi_link_advance(hvi_link *link, int64_t deadline, bool *done, PGresult **result,
                           hv_error **error);

/* A deadline for a statement that takes no time by itself: enough for a server that is busy, and so
 * short that one that has died in silence is noticed. */
int64_t hvi_link_deadline(void);

/* Was it the connection, not the statement, that failed? Then it is worth opening a new one. */
bool hvi_link_is_lost(hv_status status);

#endif
