/*
 * extension: make sure that the extensions hstore and hypervault are in a database.
 */
#include "shard/extension.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/result.h"

static const hvi_form text_form = {
    .asked = "an extension",
    .rows = HVI_AT_MOST_ONE_ROW,
    .columns = {HVI_IS_BYTES | HVI_OR_NULL},
};

/* The only column of the only row; *value stays NULL if there is no row or it is NULL. */
static hv_status read_text(hvi_session *session, const char *sql, int64_t deadline, char **value,
                           hv_error **error) {
    PGresult *result = NULL;
    hv_status status = hvi_session_script(session, sql, -1, false, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &text_form, session->config->server, -1, error);
    if (status == HV_OK && PQntuples(result) > 0 && !PQgetisnull(result, 0, 0)) {
        *value = strdup(hvi_text_at(result, 0, 0));
        if (*value == NULL)
            status = hvi_no_memory(error);
    }
    PQclear(result);
    return status;
}

/* The error for an extension that the server would not create. */
static hv_status fail_create(const char *extension, const char *package, const char *server,
                             const hv_error *cause, hv_error **error) {
    hv_status status =
        hvi_fail(error, hv_error_status(cause),
                 "could not create the extension %s on server \"%s\"", extension, server);
    hvi_error_detail(error, "%s", hv_error_message(cause));
    hvi_error_sqlstate(error, hv_error_sqlstate(cause));
    hvi_error_where(error, server, -1);
    if (hvi_error_has_sqlstate(cause, "42501"))
        hvi_error_hint(error,
                       "Let the database's owner or a superuser run CREATE EXTENSION %s in this "
                       "database.",
                       extension);
    else if (hvi_error_has_sqlstate(cause, "58P01") || hvi_error_has_sqlstate(cause, "0A000"))
        hvi_error_hint(error, "Install %s on the server's machine.", package);
    else if (hv_error_hint(cause) != NULL)
        hvi_error_hint(error, "%s", hv_error_hint(cause));
    return status;
}

/* ---- hstore ---- */

static hv_status find_hstore(hvi_session *session, int64_t deadline, char **type,
                             hv_error **error) {
    return read_text(session,
                     "SELECT pg_catalog.quote_ident(n.nspname::pg_catalog.text)"
                     " OPERATOR(pg_catalog.||) '.hstore'"
                     " FROM pg_catalog.pg_extension e"
                     " JOIN pg_catalog.pg_namespace n"
                     " ON n.oid OPERATOR(pg_catalog.=) e.extnamespace"
                     " WHERE e.extname OPERATOR(pg_catalog.=) 'hstore'",
                     deadline, type, error);
}

hv_status hvi_extension_hstore(hvi_session *session, int64_t deadline, char **type,
                               hv_error **error) {
    const char *server = session->config->server;
    hv_status status = find_hstore(session, deadline, type, error);
    if (status != HV_OK || *type != NULL)
        return status;
    hv_error *cause = NULL;
    status = hvi_session_script(session, HVI_CREATION_LOCK "CREATE EXTENSION IF NOT EXISTS hstore",
                                -1, false, deadline, NULL, &cause);
    if (status == HV_REFUSED)
        status = fail_create("hstore", "PostgreSQL's contrib modules", server, cause, error);
    else if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    if (status == HV_OK)
        status = find_hstore(session, deadline, type, error);
    if (status == HV_OK && *type == NULL)
        status = hvi_fail(error, HV_CORRUPT, "the extension hstore is missing after its creation");
    return status;
}

/* ---- hypervault ---- */

/* Is version `have`, such as "1.2", older than `need`? */
static bool is_older(const char *have, const char *need) {
    int have_major = 0, have_minor = 0, need_major = 0, need_minor = 0;
    sscanf(have, "%d.%d", &have_major, &have_minor);
    sscanf(need, "%d.%d", &need_major, &need_minor);
    return have_major < need_major || (have_major == need_major && have_minor < need_minor);
}

static hv_status check_version(const char *have, const char *server, hv_error **error) {
    if (!is_older(have, HVI_EXTENSION_VERSION))
        return HV_OK;
    hvi_fail(error, HV_MISMATCH, "the extension hypervault on server \"%s\" is too old", server);
    hvi_error_detail(error, "It has version %s; this library needs %s.", have,
                     HVI_EXTENSION_VERSION);
    hvi_error_hint(error, "Install the newer one on the server's machine and run ALTER EXTENSION "
                          "hypervault UPDATE.");
    hvi_error_where(error, server, -1);
    return HV_MISMATCH;
}

/* Are its files on the server's machine? Checked first, because CREATE EXTENSION would leave an
 * ERROR in the server's log. HV_NOT_FOUND, with an error, if not. */
static hv_status find_files(hvi_session *session, int64_t deadline, hv_error **error) {
    const char *server = session->config->server;
    char *version = NULL;
    hv_status status = read_text(session,
                                 "SELECT default_version FROM pg_catalog.pg_available_extensions"
                                 " WHERE name OPERATOR(pg_catalog.=) 'hypervault'",
                                 deadline, &version, error);
    if (status == HV_OK && version == NULL) {
        hvi_fail(error, HV_REFUSED, "could not create the extension hypervault on server \"%s\"",
                 server);
        hvi_error_detail(error, "The extension \"hypervault\" is not available.");
        hvi_error_hint(error, "Install hypervault's extension on the server's machine.");
        hvi_error_where(error, server, -1);
        status = HV_NOT_FOUND;
    }
    free(version);
    return status;
}

static hv_status create_hypervault(hvi_session *session, int64_t deadline, hv_error **error) {
    const char *server = session->config->server;
    hv_error *cause = NULL;
    hv_status status = find_files(session, deadline, error);
    if (status != HV_OK)
        return status;
    status = hvi_session_script(
        session, HVI_CREATION_LOCK "CREATE EXTENSION IF NOT EXISTS hypervault SCHEMA hypervault",
        -1, false, deadline, NULL, &cause);
    if (status == HV_OK)
        return HV_OK;
    if (status != HV_REFUSED || hv_error_retriable(cause))
        return hvi_error_move(error, &cause);
    fail_create("hypervault", "hypervault's extension", server, cause, error);
    hv_error_free(cause);
    return HV_NOT_FOUND;
}

static const char version_sql[] = "SELECT extversion FROM pg_catalog.pg_extension"
                                  " WHERE extname OPERATOR(pg_catalog.=) 'hypervault'";

/* Can its library be loaded? A call of any of its functions shows that. */
static hv_status check_library(hvi_session *session, int64_t deadline, hv_error **error) {
    const char *server = session->config->server;
    hv_error *cause = NULL;
    hv_status status =
        hvi_session_script(session, "SELECT hypervault.key_shard('1'::pg_catalog.int8)", -1, false,
                           deadline, NULL, &cause);
    if (status == HV_REFUSED &&
        hvi_error_has_sqlstate(cause, "42501")) { /* a role that does not put */
        hv_error_free(cause);
        return HV_OK;
    }
    if (status != HV_REFUSED || hv_error_retriable(cause))
        return status == HV_OK ? HV_OK : hvi_error_move(error, &cause);
    hvi_fail(error, HV_REFUSED, "the extension hypervault on server \"%s\" does not work", server);
    hvi_error_detail(error, "%s", hv_error_message(cause));
    hvi_error_hint(error, "Install hypervault's extension on the server's machine.");
    hvi_error_sqlstate(error, hv_error_sqlstate(cause));
    hvi_error_where(error, server, -1);
    hv_error_free(cause);
    return HV_NOT_FOUND;
}

hv_status hvi_extension_works(hvi_session *session, int64_t deadline, hv_error **error) {
    char *version = NULL;
    hv_status status = read_text(session, version_sql, deadline, &version, error);
    if (status == HV_OK && version != NULL)
        status = check_version(version, session->config->server, error);
    free(version);
    return status == HV_OK ? check_library(session, deadline, error) : status;
}

hv_status hvi_extension_hypervault(hvi_session *session, int64_t deadline, hv_error **error) {
    char *version = NULL;
    hv_status status = read_text(session, version_sql, deadline, &version, error);
    if (status == HV_OK && version == NULL)
        status = create_hypervault(session, deadline, error);
    free(version);
    return status == HV_OK ? hvi_extension_works(session, deadline, error) : status;
}
