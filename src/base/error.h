/*
 * error: build, copy and free an hv_error.
 *
 * Every function takes the caller's `hv_error **`, which may be NULL: then it only returns the
 * status. After hvi_fail() the other functions add to the error that it made. If memory is too
 * short for an error, *error becomes a static one of the same status, which can be "freed" like any
 * other.
 */
#ifndef HVI_ERROR_H
#define HVI_ERROR_H

#include "hypervault.h"

#if defined(__GNUC__)
#define HVI_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define HVI_PRINTF(fmt, first)
#endif

/* Make an error with this status and message, in place of one that *error may hold. Returns the
 * status, so that `return hvi_fail(error, HV_INVALID, "…")` is one statement. */
hv_status hvi_fail(hv_error **error, hv_status status, const char *format, ...) HVI_PRINTF(3, 4);

/* The error for being out of memory; allocates nothing. Returns HV_NO_MEMORY. */
hv_status hvi_no_memory(hv_error **error);

/* Add to the error that hvi_fail() made. Texts are copied. */
void hvi_error_prefix(hv_error **error, const char *format, ...) HVI_PRINTF(2, 3);
void hvi_error_detail(hv_error **error, const char *format, ...) HVI_PRINTF(2, 3);
void hvi_error_hint(hv_error **error, const char *format, ...) HVI_PRINTF(2, 3);
/* With `server` NULL or `shard` -1, the error keeps the one it has. */
void hvi_error_where(hv_error **error, const char *server, int shard);
/* Also decides whether HV_REFUSED is retriable (serialization failures, deadlocks, resources). */
void hvi_error_sqlstate(hv_error **error, const char *sqlstate);

/* Is that the error's SQLSTATE? Not of NULL. */
bool hvi_error_has_sqlstate(const hv_error *error, const char *sqlstate);

/* The constraint that the server names. NULL is allowed and changes nothing. */
void hvi_error_constraint(hv_error **error, const char *constraint);

/* The row of a COPY, from 1, that the error is about, as the server reports it; 0: unknown. */
void hvi_error_copy_row(hv_error **error, int64_t row);
int64_t hvi_error_copy_row_of(const hv_error *error);

/* The character of the SQL, from 1, that the error is about, as the server reports it; 0: unknown.
 */
void hvi_error_position(hv_error **error, int position);
int hvi_error_position_of(const hv_error *error); /* NULL: 0 */

/* The cause of a refusal, where the status alone does not say: see refusal.h. */
typedef enum hvi_refusal {
    HVI_REFUSAL_OTHER,
    HVI_REFUSAL_STATEMENTS, /* the server's prepared statements are not what we thought */
    HVI_REFUSAL_RESULT,     /* the result of a prepared statement has another type now */
    HVI_REFUSAL_TYPES,      /* the session has cached an object that is gone, such as a type */
    HVI_REFUSAL_RULE,       /* the table has a rule that our INSERT cannot go through */
    HVI_REFUSAL_KEY,        /* a trigger changes the key that a row was given */
    HVI_REFUSAL_OPENING,    /* no statement was refused: a connection could not be opened */
} hvi_refusal;
void hvi_error_refusal(hv_error **error, hvi_refusal refusal);
hvi_refusal hvi_error_refusal_of(const hv_error *error); /* NULL: HVI_REFUSAL_OTHER */

/* Set whether the error is retriable, whatever its status is. */
void hvi_error_retriable(hv_error **error, bool retriable);

/* A copy, owned by the caller; NULL for NULL. */
hv_error *hvi_error_copy(const hv_error *error);

/* Move *from to *error (or free it if `error` is NULL); returns its status. */
hv_status hvi_error_move(hv_error **error, hv_error **from);

#endif
