/*
 * migrations: the struct hv_migrations: a directory of SQL files, in the order of their numbers.
 */
#include "schema/migrations.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/utf8.h"

/* A number has no more digits: every one fits into an int64_t. */
#define MAX_DIGITS 18

/* ---- statements that run concurrently ---- */

/* A name with its schema: the first part's beginning is *at of the first token. */
static const char *skip_qualified(const char *at, const char *end) {
    const char *last = at;
    for (;;) {
        hvi_token name = hvi_token_next(&at, end);
        if (name.kind != HVI_TOKEN_WORD && name.kind != HVI_TOKEN_NAME)
            return last;
        last = at;
        hvi_token point = hvi_token_next(&at, end);
        if (!hvi_token_is_sign(&point, '.'))
            return last;
    }
}

static void take_name(const char **at, const char *end, const char **name, size_t *len) {
    const char *begin = *at;
    hvi_token first = hvi_token_next(&begin, end);
    if (first.kind != HVI_TOKEN_WORD && first.kind != HVI_TOKEN_NAME)
        return;
    *at = skip_qualified(*at, end);
    *name = first.begin;
    *len = (size_t) (*at - first.begin);
}

/* If the next words are these, *at goes behind them. */
static bool take_words(const char **at, const char *end, const char *words) {
    const char *next = *at;
    while (*words != '\0') {
        char word[32] = "";
        size_t len = strcspn(words, " ");
        memcpy(word, words, len);
        hvi_token token = hvi_token_next(&next, end);
        if (!hvi_token_is(&token, word))
            return false;
        words += len;
        words += *words == ' ';
    }
    *at = next;
    return true;
}

static hvi_concurrently read_create(const char *at, const char *end) {
    hvi_concurrently said = {0};
    take_words(&at, end, "unique");
    if (!take_words(&at, end, "index concurrently"))
        return said;
    said.what = HVI_CONCURRENT_CREATE;
    take_words(&at, end, "if not exists");
    if (!take_words(&at, end, "on")) {
        take_name(&at, end, &said.index, &said.index_len);
        if (!take_words(&at, end, "on"))
            return said;
    }
    take_words(&at, end, "only");
    take_name(&at, end, &said.table, &said.table_len);
    return said;
}

static hvi_concurrently read_drop(const char *at, const char *end) {
    hvi_concurrently said = {.what = HVI_CONCURRENT_DROP};
    take_words(&at, end, "if exists");
    take_name(&at, end, &said.index, &said.index_len);
    return said;
}

/* REINDEX [(…, CONCURRENTLY, …)] INDEX | TABLE | SCHEMA | … [CONCURRENTLY] name */
static hvi_concurrently read_reindex(const char *at, const char *end) {
    hvi_concurrently said = {0};
    const char *next = at;
    hvi_token token = hvi_token_next(&next, end);
    bool concurrently = false;
    if (hvi_token_is_sign(&token, '(')) {
        while (token.kind != HVI_TOKEN_END && !hvi_token_is_sign(&token, ')')) {
            concurrently = concurrently || hvi_token_is(&token, "concurrently");
            token = hvi_token_next(&next, end);
        }
        token = hvi_token_next(&next, end);
    }
    said.is_index = hvi_token_is(&token, "index");
    said.is_schema = hvi_token_is(&token, "schema");
    at = next;
    concurrently = take_words(&at, end, "concurrently") || concurrently;
    if (concurrently && (said.is_index || said.is_schema || hvi_token_is(&token, "table"))) {
        said.what = HVI_CONCURRENT_REINDEX;
        take_name(&at, end, &said.index, &said.index_len);
    }
    return said;
}

hvi_concurrently hvi_concurrently_read(const char *statement, size_t len) {
    const char *at = statement, *end = statement + len;
    if (take_words(&at, end, "create"))
        return read_create(at, end);
    if (take_words(&at, end, "drop index concurrently"))
        return read_drop(at, end);
    if (take_words(&at, end, "reindex"))
        return read_reindex(at, end);
    return (hvi_concurrently){0};
}

static bool changes_role(const hvi_sql *sql, size_t i) {
    static const char *const forms[] = {"set role", "set session role", "set session authorization",
                                        "set session session authorization"};
    for (size_t j = 0; j < sizeof forms / sizeof *forms; j++)
        if (hvi_sql_begins(sql, i, forms[j]))
            return true;
    return false;
}

/* The search_path, the limits and the shard's lock would be lost. */
static bool discards_settings(const hvi_sql *sql, size_t i) {
    return hvi_sql_begins(sql, i, "discard all") || hvi_sql_begins(sql, i, "reset all");
}

/* What is not possible without a transaction: the ledger is written between two statements; and an
 * interrupted CREATE INDEX can be found by the index's name only. */
static hv_status check_apart(const hvi_sql *sql, hv_error **error) {
    for (size_t i = 0; sql->no_transaction && i < sql->count; i++) {
        if (discards_settings(sql, i)) {
            hvi_fail(error, HV_INVALID, "the settings of the session cannot be discarded");
            hvi_error_hint(error, "RESET those that the file has set by their names.");
            hvi_sql_locate(sql, sql->statements[i].line, error);
            return HV_INVALID;
        }
        if (changes_role(sql, i)) {
            hvi_fail(error, HV_INVALID, "another role in a file without a transaction");
            hvi_error_hint(error, "Use ALTER … OWNER TO, or a file with a transaction.");
            hvi_sql_locate(sql, sql->statements[i].line, error);
            return HV_INVALID;
        }
        const hvi_sql_statement *statement = &sql->statements[i];
        hvi_concurrently said =
            hvi_concurrently_read(sql->text + statement->begin, statement->end - statement->begin);
        if (said.what != HVI_CONCURRENT_CREATE || said.index_len > 0)
            continue;
        hvi_fail(error, HV_INVALID, "CREATE INDEX CONCURRENTLY without a name");
        hvi_error_detail(error, "What an interrupted one leaves is found by its name.");
        hvi_error_hint(error, "Give the index a name.");
        hvi_sql_locate(sql, statement->line, error);
        return HV_INVALID;
    }
    return HV_OK;
}

/* ---- one file ---- */

/* Names of other files are not looked at. */
static bool is_migration(const char *name) {
    size_t len = strlen(name);
    return name[0] != '.' && len >= 4 && strcmp(name + len - 4, ".sql") == 0;
}

/* The number in a file's name: *number is 0 if there is none. */
static hv_status read_number(const char *name, int64_t *number, hv_error **error) {
    size_t digits = strspn(name, "0123456789");
    *number = digits > 0 && digits <= MAX_DIGITS ? strtoll(name, NULL, 10) : 0;
    /* a name that is more than ".sql" */
    bool fits = *number > 0 && name[digits] == '_' && name[digits + 1] != '.';
    if (fits && hvi_utf8_prefix(name, strlen(name)) == strlen(name))
        return HV_OK;
    hvi_fail(error, HV_INVALID, "\"%s\" is not the name of a migration",
             hvi_utf8_excerpt(name, strlen(name)).text);
    hvi_error_detail(error, "A file's name is its number, 1 or more, \"_\", and a name: "
                            "0007_add_score.sql.");
    hvi_error_hint(error, "Rename the file, or give it another ending than \".sql\".");
    return HV_INVALID;
}

static hv_status read_rest(int fd, hvi_buffer *bytes) {
    for (;;) {
        if (!hvi_buffer_reserve(bytes, 65536))
            return HV_NO_MEMORY;
        ssize_t got = read(fd, bytes->data + bytes->len, bytes->cap - bytes->len - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return HV_BAD_CONFIG;
        if (got == 0)
            return HV_OK;
        bytes->len += (size_t) got;
    }
}

/* All bytes of a regular file. */
static hv_status read_bytes(int directory, const char *name, hvi_buffer *bytes, hv_error **error) {
    struct stat info;
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO is no reason to
                                                                            wait */
    hv_status status = fd >= 0 && fstat(fd, &info) == 0 ? HV_OK : HV_BAD_CONFIG;
    if (status == HV_OK && !S_ISREG(info.st_mode)) {
        close(fd);
        return hvi_fail(error, HV_INVALID, "\"%s\" is not a regular file", name);
    }
    if (status == HV_OK)
        status = read_rest(fd, bytes);
    if (status == HV_BAD_CONFIG)
        hvi_fail(error, status, "could not read the migration \"%s\": %s", name, strerror(errno));
    else if (status == HV_NO_MEMORY)
        hvi_no_memory(error);
    if (fd >= 0)
        close(fd);
    return status;
}

static hv_status read_file(int directory, const char *name, hvi_migration *file, hv_error **error) {
    hvi_buffer bytes = HVI_BUFFER_EMPTY;
    hv_status status = read_number(name, &file->number, error);
    if (status == HV_OK)
        status = read_bytes(directory, name, &bytes, error);
    if (status == HV_OK) {
        hvi_sha256(bytes.data, bytes.len, file->digest);
        status = hvi_sql_read(&file->sql, name, bytes.data, bytes.len, error);
    }
    if (status == HV_OK)
        status = check_apart(&file->sql, error);
    hvi_buffer_fini(&bytes);
    return status;
}

/* ---- the files ---- */

static int compare(const void *a, const void *b) {
    const hvi_migration *x = a, *y = b;
    if (x->number != y->number)
        return (x->number > y->number) - (x->number < y->number);
    return strcmp(x->sql.name, y->sql.name);
}

static hvi_migration *add_file(hv_migrations *migrations) {
    void *grown = realloc(migrations->files, (migrations->count + 1) * sizeof *migrations->files);
    if (grown == NULL)
        return NULL;
    migrations->files = grown;
    hvi_migration *file = &migrations->files[migrations->count++];
    *file = (hvi_migration){0};
    return file;
}

/* ---- the directory ---- */

typedef struct names {
    char **names; /* owned, as each of them */
    size_t count;
} names;

static void free_names(names *all) {
    for (size_t i = 0; i < all->count; i++)
        free(all->names[i]);
    free(all->names);
}

static bool add_name(names *all, const char *name) {
    char **grown = realloc(all->names, (all->count + 1) * sizeof *grown);
    if (grown == NULL)
        return false;
    all->names = grown;
    grown[all->count] = strdup(name);
    return grown[all->count] != NULL && ++all->count > 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static hv_status fail_directory(const hv_migrations *migrations, hv_error **error) {
    return hvi_fail(error, HV_BAD_CONFIG, "could not read the directory \"%s\": %s",
                    migrations->directory, strerror(errno));
}

/* In order, so that the first error is always the same. */
static hv_status list_names(const hv_migrations *migrations, DIR *folder, names *all,
                            hv_error **error) {
    const struct dirent *entry;
    for (errno = 0; (entry = readdir(folder)) != NULL; errno = 0)
        if (is_migration(entry->d_name) && !add_name(all, entry->d_name))
            return hvi_no_memory(error);
    if (errno != 0)
        return fail_directory(migrations, error);
    if (all->count > 0)
        qsort(all->names, all->count, sizeof *all->names, by_name);
    return HV_OK;
}

static hv_status read_directory(hv_migrations *migrations, hv_error **error) {
    names all = {0};
    DIR *folder = opendir(migrations->directory);
    if (folder == NULL)
        return fail_directory(migrations, error);
    hv_status status = list_names(migrations, folder, &all, error);
    for (size_t i = 0; status == HV_OK && i < all.count; i++) {
        hvi_migration *file = add_file(migrations);
        status = file != NULL ? read_file(dirfd(folder), all.names[i], file, error)
                              : hvi_no_memory(error);
    }
    free_names(&all);
    closedir(folder);
    return status;
}

static hv_status check_numbers(const hv_migrations *migrations, hv_error **error) {
    if (migrations->count == 0) {
        hvi_fail(error, HV_INVALID, "there are no migrations in the directory \"%s\"",
                 migrations->directory);
        hvi_error_detail(error, "A migration is a file like 0007_add_score.sql.");
        return HV_INVALID;
    }
    for (size_t i = 1; i < migrations->count; i++) {
        const hvi_migration *one = &migrations->files[i - 1], *two = &migrations->files[i];
        if (one->number != two->number)
            continue;
        hvi_fail(error, HV_INVALID, "\"%s\" and \"%s\" have the same number", one->sql.name,
                 two->sql.name);
        hvi_error_hint(error, "Rename the newer one, if it has not been run anywhere.");
        return HV_INVALID;
    }
    return HV_OK;
}

hv_status hv_migrations_load(const char *directory, hv_migrations **migrations, hv_error **error) {
    hv_migrations *made = calloc(1, sizeof *made);
    *migrations = NULL;
    if (made == NULL)
        return hvi_no_memory(error);
    made->directory = strdup(directory);
    hv_status status = made->directory != NULL ? read_directory(made, error) : hvi_no_memory(error);
    if (status == HV_OK) {
        if (made->count > 0)
            qsort(made->files, made->count, sizeof *made->files, compare);
        status = check_numbers(made, error);
    }
    if (status != HV_OK) {
        hv_migrations_free(made);
        made = NULL;
    }
    *migrations = made;
    return status;
}

void hv_migrations_free(hv_migrations *migrations) {
    if (migrations == NULL)
        return;
    for (size_t i = 0; i < migrations->count; i++)
        hvi_sql_fini(&migrations->files[i].sql);
    free(migrations->files);
    free(migrations->directory);
    free(migrations);
}

const hvi_migration *hvi_migrations_find(const hv_migrations *migrations, int64_t number) {
    size_t from = 0, to = migrations->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (migrations->files[middle].number == number)
            return &migrations->files[middle];
        if (migrations->files[middle].number < number)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

size_t hv_migrations_count(const hv_migrations *migrations) {
    return migrations->count;
}

const char *hv_migrations_name(const hv_migrations *migrations, size_t index) {
    return index < migrations->count ? migrations->files[index].sql.name : NULL;
}

const char *hv_migrations_digest(const hv_migrations *migrations, size_t index) {
    return index < migrations->count ? migrations->files[index].digest : NULL;
}

bool hv_migrations_in_transaction(const hv_migrations *migrations, size_t index) {
    return index < migrations->count && !migrations->files[index].sql.no_transaction;
}
