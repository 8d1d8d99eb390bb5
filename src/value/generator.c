/*
 * generator: the SQL of the functions that make a shard's keys.
 *
 * The key's layout is described in hypervault.h. Of the 1,024 values of added_id, portable keys
 * have 896 for next_id() and the other 128 for reserve_ids(), whose sequence counts milliseconds ×
 * 128: at most 128 keys have the same millisecond, and more are borrowed from the next.
 *
 * Holds always, so that no change of functions lets a reserved key be made again:
 *
 *  1. A transaction that makes keys holds a lock on the shard's table meanwhile, ROW EXCLUSIVE at
 *     least: an INSERT has one anyway, and reserve_ids() takes one. A change of functions takes a
 *     lock that conflicts with it. So the change begins when no keys are being made, and later
 *     transactions wait for its end.
 *  2. A transaction that has waited must not go on in the old function. For an INSERT, PostgreSQL
 *     looks functions up after it waited for the table. reserve_ids() itself checks whether it is
 *     still the shard's: the sequence for reserved keys is named reserved_id_seq while keys are
 *     portable, and retired_id_seq while they are strict.
 */
#include "value/generator.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "value/key.h"
#include "value/shard_map.h"

/* Milliseconds since 1970. date_part() rather than extract(), whose numeric arithmetic would cost
 * more than all the rest. */
#define NOW_MS                                                                     \
    "pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())" \
    " OPERATOR(pg_catalog.*) 1000)::bigint"

/*
 * After a move to a server whose clock is behind, portable keys begin where they were and go on at
 * half the speed of the clock until it has caught up: GREATEST(now, (now + ahead) / 2). With zeros
 * before the number, nobody takes it for the epoch.
 */
#define AHEAD_BEGIN "GREATEST(" NOW_MS ", (" NOW_MS " OPERATOR(pg_catalog.+) '000"
#define AHEAD_END   "'::bigint) OPERATOR(pg_catalog./) 2 /* moved */)"

/* How far keys may be ahead of the clock at a change. Portable keys follow the clock, so the change
 * waits for it, and writers wait too: above PATIENCE_MS it is tried again later, above HOPELESS_MS
 * never, as the clock would not catch up in reasonable time. */
#define PATIENCE_MS 100
#define HOPELESS_MS 60000

/* How far the clock may be behind at a move for writers to wait for it. */
#define PATIENCE_MOVED_MS 5

/* The last value of the sequence for reserved keys from which a key can be made. */
#define RESERVED_MAX (HVI_KEY_MAX_TIME * 128 + 127)

/* ---- the extension ---- */

const char hvi_generator_extension_hint[] =
    "Install hypervault's extension on the server's machine and run `hv init`, which creates it "
    "here, or run `hv init --keys portable`, which does not need it.";

bool hvi_generator_lacks_extension(const char *sqlstate, const char *message) {
    /* The library, or a function of the extension or in its library, is missing. The names are the
     * same in every language of the server's messages. */
    return sqlstate != NULL && message != NULL && strstr(message, "hypervault") != NULL &&
           (strcmp(sqlstate, "42883") == 0 || strcmp(sqlstate, "58P01") == 0);
}

/* ---- the functions ---- */

/* The beginning of reserve_ids(). `others` is the name that the sequence for reserved keys has
 * while the other generator makes the shard's keys. */
static void append_reserve_head(hvi_buffer *sql, const char *schema, const char *others,
                                const char *declaration, const char *comment) {
    hvi_buffer_append_format(
        sql,
        "CREATE OR REPLACE FUNCTION %s.reserve_ids(how_many integer) RETURNS SETOF bigint"
        " LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $body$\n"
        "%s"
        "BEGIN\n"
        "%s"
        "    IF how_many IS NULL OR how_many OPERATOR(pg_catalog.<) 1\n"
        "        OR how_many OPERATOR(pg_catalog.>) %d THEN\n"
        "        RAISE EXCEPTION '%% keys cannot be reserved at once', how_many\n"
        "            USING DETAIL = 'It must be 1 to %d.', ERRCODE = '22023';\n"
        "    END IF;\n"
        "    LOCK TABLE %s.entities IN ROW EXCLUSIVE MODE;\n"
        "    IF pg_catalog.to_regclass('%s.%s') IS NOT NULL THEN"
        " /* changed while we waited */\n"
        "        RETURN QUERY EXECUTE 'SELECT %s.reserve_ids($1)' USING how_many;\n"
        "        RETURN;\n"
        "    END IF;\n",
        schema, declaration, comment, HVI_RESERVE_MAX, HVI_RESERVE_MAX, schema, schema, others,
        schema);
}

static void create_strict(hvi_buffer *sql, const char *schema, int shard, int64_t epoch) {
    hvi_buffer_append_format(
        sql,
        "ALTER SEQUENCE IF EXISTS %s.reserved_id_seq RENAME TO retired_id_seq;"
        "CREATE OR REPLACE FUNCTION %s.next_id(OUT result bigint) LANGUAGE sql AS $body$\n"
        "    SELECT hypervault.next_id('%s.table_id_seq'::pg_catalog.regclass, %d, '%" PRId64
        "'::bigint)\n"
        "$body$;",
        schema, schema, schema, shard, epoch);
    append_reserve_head(sql, schema, "reserved_id_seq", "", "");
    hvi_buffer_append_format(
        sql,
        "    RETURN QUERY\n"
        "        SELECT hypervault.next_ids('%s.table_id_seq'::pg_catalog.regclass, %d, how_many,\n"
        "            '%" PRId64 "'::bigint);\n"
        "END $body$;",
        schema, shard, epoch);
}

/*
 * The lock on the sequence for reserved keys must be released before the transaction ends, or the
 * puts of a shard would take turns; and it must not outlive an error, or the shard could reserve
 * nothing until the session ends. So a subtransaction takes it that is always rolled back; setval()
 * is not undone by that.
 *
 * The keys come from a loop: a query over generate_series() would be planned at every call, because
 * the planner sees how few rows it returns. An assignment is cheaper than PERFORM, which is a
 * query.
 */
static void create_portable_reserving(hvi_buffer *sql, const char *schema, int shard,
                                      int64_t epoch) {
    append_reserve_head(sql, schema, "retired_id_seq", "DECLARE\n    last_value bigint;\n",
                        "    /* hypervault: portable */\n");
    hvi_buffer_append_format(
        sql,
        "    BEGIN\n"
        "        PERFORM pg_catalog.pg_advisory_xact_lock(26743, %d);\n"
        "        last_value := greatest(0,\n"
        "            pg_catalog.pg_sequence_last_value('%s.reserved_id_seq'),\n"
        "            (" NOW_MS "\n"
        "                OPERATOR(pg_catalog.-) %" PRId64 ") OPERATOR(pg_catalog.*) 128\n"
        "                OPERATOR(pg_catalog.-) 1);\n"
        "        IF last_value OPERATOR(pg_catalog.>)\n"
        "                ('%" PRId64 "'::bigint OPERATOR(pg_catalog.-) how_many) THEN\n"
        "            RAISE EXCEPTION 'shard %d has no keys left to be reserved'\n"
        "                USING ERRCODE = '2200H',\n"
        "                DETAIL = 'Keys hold up to %" PRId64 " milliseconds since the epoch.',\n"
        "                HINT = 'Check the server''s clock, the epoch, and to what '\n"
        "                    '%s.reserved_id_seq was set.';\n"
        "        END IF;\n"
        "        last_value := pg_catalog.setval('%s.reserved_id_seq',\n"
        "            last_value OPERATOR(pg_catalog.+) how_many) OPERATOR(pg_catalog.-) how_many;\n"
        "        RAISE SQLSTATE 'UNDO1'; /* unlock */\n"
        "    EXCEPTION WHEN SQLSTATE 'UNDO1' THEN\n"
        "    END;\n"
        "    FOR place IN 1 .. how_many LOOP\n"
        "        RETURN NEXT %d OPERATOR(pg_catalog.|)\n"
        "            (((last_value OPERATOR(pg_catalog.+) place) OPERATOR(pg_catalog./) 128)\n"
        "                OPERATOR(pg_catalog.<<) 23) OPERATOR(pg_catalog.|)\n"
        "            ((last_value OPERATOR(pg_catalog.+) place) OPERATOR(pg_catalog.%%) 128);\n"
        "    END LOOP;\n"
        "END $body$;",
        shard, schema, epoch, RESERVED_MAX, shard, HVI_KEY_MAX_TIME, schema, schema,
        shard << 10 | 896);
}

/*
 * next_id() must stay one expression, so that PostgreSQL can inline it. So `time << 23` is computed
 * in a way that overflows, and fails, if no key can hold the time: 0 to 2^40 - 1, less 2^39, times
 * 2^24, is exactly the range of a bigint.
 */
static void create_portable(hvi_buffer *sql, const char *schema, int shard, int64_t epoch) {
    hvi_buffer_append_format(
        sql,
        "ALTER SEQUENCE IF EXISTS %s.retired_id_seq RENAME TO reserved_id_seq;"
        "CREATE SEQUENCE IF NOT EXISTS %s.reserved_id_seq;"
        "CREATE OR REPLACE FUNCTION %s.next_id(OUT result bigint) LANGUAGE sql AS $body$\n"
        "    /* hypervault: portable */\n"
        "    SELECT ((((" NOW_MS "\n"
        "                    OPERATOR(pg_catalog.-) '%" PRId64 "'::bigint\n"
        "                    OPERATOR(pg_catalog.-) '549755813888'::bigint)\n"
        "                OPERATOR(pg_catalog.*) '16777216'::bigint)\n"
        "            OPERATOR(pg_catalog./) '2'::bigint)\n"
        "            OPERATOR(pg_catalog.+) '4611686018427387904'::bigint)\n"
        "        OPERATOR(pg_catalog.|) '%d'::bigint\n"
        "        OPERATOR(pg_catalog.|)\n"
        "            pg_catalog.abs(pg_catalog.nextval("
        "'%s.table_id_seq'::pg_catalog.regclass)\n"
        "                OPERATOR(pg_catalog.%%) '896'::bigint)\n"
        "$body$;",
        schema, schema, schema, epoch, shard << 10, schema);
    create_portable_reserving(sql, schema, shard, epoch);
}

void hvi_generator_create(hvi_buffer *sql, hvi_generator generator, int shard, int64_t epoch) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    if (generator == HVI_GENERATOR_STRICT)
        create_strict(sql, schema, shard, epoch);
    else
        create_portable(sql, schema, shard, epoch);
}

void hvi_generator_renew(hvi_buffer *sql, int shard, int64_t epoch) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    create_portable_reserving(sql, schema, shard, epoch);
}

void hvi_generator_require_epoch(hvi_buffer *sql, int64_t epoch) {
    hvi_buffer_append_format(
        sql,
        "    IF " NOW_MS " OPERATOR(pg_catalog.<) '%" PRId64 "'::bigint\n"
        "        OR " NOW_MS " OPERATOR(pg_catalog.-) '%" PRId64 "'::bigint\n"
        "            OPERATOR(pg_catalog.>) '%" PRId64 "'::bigint THEN\n"
        "        RAISE EXCEPTION 'keys of epoch %" PRId64 " cannot hold the present time'\n"
        "            USING ERRCODE = '2200H',\n"
        "            DETAIL = 'They hold 0 to %" PRId64 " milliseconds since the epoch.',\n"
        "            HINT = 'Check the option \"epoch\", which is in milliseconds since 1970, and "
        "'\n"
        "                'the server''s clock.';\n"
        "    END IF;\n",
        epoch, epoch, HVI_KEY_MAX_TIME, epoch, HVI_KEY_MAX_TIME);
}

/* ---- changing them ---- */

/*
 * The beginning of a block of PL/pgSQL, up to the point where `latest` is the last millisecond
 * since the epoch that any key made so far may hold, and `present` that of the clock. The value of
 * a table_id_seq that only counts is too small to matter here.
 */
static void append_latest(hvi_buffer *sql, const char *schema, int64_t epoch) {
    hvi_buffer_append_format(
        sql,
        "DO $do$ DECLARE\n"
        "    present bigint := " NOW_MS " OPERATOR(pg_catalog.-) %" PRId64 ";\n"
        "    latest bigint := greatest(\n"
        "        (SELECT pg_catalog.max(id) OPERATOR(pg_catalog.>>) 23 FROM %s.entities),\n"
        "        (SELECT last_value OPERATOR(pg_catalog.>>) 10 FROM %s.table_id_seq));\n"
        "BEGIN\n"
        "    IF pg_catalog.to_regclass('%s.reserved_id_seq') IS NOT NULL THEN\n"
        "        latest := greatest(latest,\n"
        "            (SELECT last_value OPERATOR(pg_catalog./) 128 FROM %s.reserved_id_seq));\n"
        "    END IF;\n",
        epoch, schema, schema, schema, schema);
    hvi_generator_require_epoch(sql, epoch);
    hvi_buffer_append_format(
        sql,
        "    IF latest OPERATOR(pg_catalog.-) present OPERATOR(pg_catalog.>) %d THEN\n"
        "        RAISE EXCEPTION 'the keys of %s are %% ms ahead of the clock',\n"
        "            latest OPERATOR(pg_catalog.-) present USING ERRCODE = '%s';\n"
        "    END IF;\n",
        HOPELESS_MS, schema, HVI_GENERATOR_HOPELESS);
}

void hvi_generator_change(hvi_buffer *sql, hvi_generator to, int shard, int64_t epoch) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_buffer_append_format(sql, "LOCK TABLE %s.entities IN SHARE ROW EXCLUSIVE MODE;", schema);
    append_latest(sql, schema, epoch);
    if (to == HVI_GENERATOR_STRICT)
        hvi_buffer_append_format(sql,
                                 "    PERFORM hypervault.advance("
                                 "'%s.table_id_seq'::pg_catalog.regclass,\n"
                                 "        ((1 OPERATOR(pg_catalog.+) greatest(present, latest))\n"
                                 "            OPERATOR(pg_catalog.<<) 23)"
                                 " OPERATOR(pg_catalog.-) 1);\n",
                                 schema);
    else
        hvi_buffer_append_format(
            sql,
            "    IF latest OPERATOR(pg_catalog.-) present OPERATOR(pg_catalog.>) %d THEN\n"
            "        RAISE EXCEPTION 'the keys of %s are %% ms ahead of the clock',\n"
            "            latest OPERATOR(pg_catalog.-) present USING ERRCODE = '%s';\n"
            "    END IF;\n"
            "    PERFORM pg_catalog.pg_sleep(greatest((latest OPERATOR(pg_catalog.-) present)\n"
            "        OPERATOR(pg_catalog.+) 2, 2) OPERATOR(pg_catalog./) 1000.0);\n",
            PATIENCE_MS, schema, HVI_GENERATOR_LATER);
    hvi_buffer_append_text(sql, "END $do$;");
    hvi_generator_create(sql, to, shard, epoch);
}

/* ---- moving them ---- */

/* The number of a clock that keys are ahead of, in the body of a function; NULL: it has none. */
#define AHEAD_OF(body)                                                                       \
    "pg_catalog.\"substring\"(" body ", '([0-9]+)''::bigint[)] OPERATOR[(]pg_catalog[.]/[)]" \
    " 2 /[*] moved [*]/')::bigint"

/* The epoch in the body of a strict next_id(), of this version or an earlier one. */
#define EPOCH_OF(body) \
    "pg_catalog.\"substring\"(" body ", ', ''?(-?[0-9]+)''?(?:::bigint)?[)]')::bigint"

void hvi_generator_time(hvi_buffer *sql, const char *schema) {
    hvi_buffer_append_format(
        sql,
        "SELECT GREATEST(" NOW_MS ", COALESCE((" NOW_MS " OPERATOR(pg_catalog.+) " AHEAD_OF(
            "f.prosrc") ") OPERATOR(pg_catalog./) 2, 0)) OPERATOR(pg_catalog.+) 1"
                        " FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_proc AS f"
                        " ON f.pronamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
                        " AND f.proname OPERATOR(pg_catalog.=) 'next_id'"
                        " AND f.pronargs OPERATOR(pg_catalog.=) 0",
        schema);
}

/*
 * Strict keys of a sequence that was set would be greater than those made before, but not later
 * than the source's clock, up to which a feed may have been read; so the sequence is advanced to
 * it.
 *
 * The functions are changed as text, so that everything else of theirs stays as it is: rights, and
 * what the caller has added. Their bodies speak of the live name, which is not there now.
 */
void hvi_generator_go_on(hvi_buffer *sql, const char *schema, int64_t time) {
    hvi_buffer_append_format(
        sql,
        "DO $do$ DECLARE\n"
        "    one record;\n"
        "    definition text;\n"
        "    plain text := $clock$" NOW_MS "$clock$;\n"
        "    present bigint := " NOW_MS ";\n"
        "    ahead bigint;\n"
        "BEGIN\n"
        "    SELECT " HVI_GENERATOR_OF_FUNCTION " AS generator, f.prosrc INTO one\n"
        "        FROM pg_catalog.pg_proc AS f\n"
        "        WHERE f.pronamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace\n"
        "        AND f.proname OPERATOR(pg_catalog.=) 'next_id'\n"
        "        AND f.pronargs OPERATOR(pg_catalog.=) 0;\n"
        "    IF one.generator IS NULL THEN RETURN; END IF;\n"
        "    IF one.generator OPERATOR(pg_catalog.=) %d THEN\n"
        "        PERFORM hypervault.advance('%s.table_id_seq'::pg_catalog.regclass,\n"
        "            (('%" PRId64 "'::bigint OPERATOR(pg_catalog.-) " EPOCH_OF(
            "one.prosrc") ")\n"
                          "                OPERATOR(pg_catalog.<<) 23) OPERATOR(pg_catalog.-) 1);\n"
                          "        RETURN;\n"
                          "    END IF;\n"
                          /* So little passes while the caller waits. */
                          "    IF present OPERATOR(pg_catalog.<) '%" PRId64 "'::bigint\n"
                          "        AND present OPERATOR(pg_catalog.>=) '%" PRId64 "'::bigint THEN\n"
                          "        PERFORM pg_catalog.pg_sleep(('%" PRId64 "'::bigint\n"
                          "            OPERATOR(pg_catalog.-) present) OPERATOR(pg_catalog./) "
                          "1000.0);\n"
                          "        present := '%" PRId64 "'::bigint;\n"
                          "    END IF;\n"
                          "    IF pg_catalog.strpos(one.prosrc, plain) OPERATOR(pg_catalog.=) 0 "
                          "THEN\n"
                          "        IF present OPERATOR(pg_catalog.<) '%" PRId64 "'::bigint THEN\n"
                          "            RAISE EXCEPTION 'the clock is %% ms behind the keys of the "
                          "shard',\n"
                          "                '%" PRId64 "'::bigint OPERATOR(pg_catalog.-) present\n"
                          "                USING ERRCODE = '%s';\n"
                          "        END IF;\n"
                          "        RETURN;\n"
                          "    END IF;\n"
                          "    PERFORM pg_catalog.set_config('check_function_bodies', 'off', "
                          "true);\n"
                          "    FOR one IN SELECT f.oid, f.prosrc, " AHEAD_OF(
                              "f.prosrc") " AS ahead\n"
                                          "        FROM pg_catalog.pg_proc AS f\n"
                                          "        WHERE f.pronamespace OPERATOR(pg_catalog.=) "
                                          "'%s'::pg_catalog.regnamespace\n"
                                          "        AND (f.proname OPERATOR(pg_catalog.=) "
                                          "'next_id'\n"
                                          "        OR f.proname OPERATOR(pg_catalog.=) "
                                          "'reserve_ids') LOOP\n"
                                          "        definition := "
                                          "pg_catalog.pg_get_functiondef(one.oid);\n"
                                          "        IF one.ahead IS NOT NULL THEN\n"
                                          "            definition := "
                                          "pg_catalog.replace(definition, "
                                          "$ahead$" AHEAD_BEGIN "$ahead$\n"
                                          "                OPERATOR(pg_catalog.||) one.ahead "
                                          "OPERATOR(pg_catalog.||)\n"
                                          "                $ahead$" AHEAD_END "$ahead$, plain);\n"
                                          "        END IF;\n"
                                          "        IF present OPERATOR(pg_catalog.<) '%" PRId64
                                          "'::bigint THEN\n"
                                          "            ahead := 2 OPERATOR(pg_catalog.*) '%" PRId64
                                          "'::bigint\n"
                                          "                OPERATOR(pg_catalog.-) present;\n"
                                          "            definition := "
                                          "pg_catalog.replace(definition, plain, "
                                          "$ahead$" AHEAD_BEGIN "$ahead$\n"
                                          "                OPERATOR(pg_catalog.||) ahead "
                                          "OPERATOR(pg_catalog.||)\n"
                                          "                $ahead$" AHEAD_END "$ahead$);\n"
                                          "        END IF;\n"
                                          "        IF one.ahead IS NOT NULL OR ahead IS NOT NULL "
                                          "THEN\n"
                                          "            EXECUTE definition;\n"
                                          "        END IF;\n"
                                          "    END LOOP;\n"
                                          "END $do$;",
        schema, HVI_GENERATOR_STRICT, schema, time, time, time - PATIENCE_MOVED_MS, time, time,
        time, time, HVI_GENERATOR_LATER, schema, time, time);
}

/* ---- comparing them ---- */

/* Where a function has its shard's number: between these texts, shifted, and with further bits. */
static const struct number {
    const char *before;
    int shift;
    int bits;
    const char *after;
} numbers[] = {
    {"'@shard.table_id_seq'::pg_catalog.regclass, ", 0, 0, ","},
    {"'@shard.table_id_seq'::regclass, ", 0, 0, ","},
    {"pg_advisory_xact_lock(26743, ", 0, 0, ")"},
    {"RAISE EXCEPTION 'shard ", 0, 0, " has no keys left"},
    {"OPERATOR(pg_catalog.|) '", 10, 0, "'::bigint"},
    {"RETURN NEXT ", 10, 896, " OPERATOR(pg_catalog.|)"},
    {"OPERATOR(pg_catalog.|) ", 10, 896, "\n"},
    {"shard_id int := ", 0, 0, ";"},
};

/* The length of the number at the beginning of the text, with what is before and after it; 0 if
 * there is none. */
static size_t match_number(const char *text, const struct number *number, int shard) {
    size_t before = strlen(number->before);
    if (strncmp(text, number->before, before) != 0)
        return 0;
    char digits[16];
    size_t len =
        (size_t) snprintf(digits, sizeof digits, "%d", shard << number->shift | number->bits);
    const char *after = text + before + len;
    if (strncmp(text + before, digits, len) != 0 ||
        strncmp(after, number->after, strlen(number->after)) != 0)
        return 0;
    return before + len;
}

/* The length of a clock that keys are ahead of, at the beginning of the text; 0: it is none. */
static size_t match_ahead(const char *text) {
    static const char begin[] = AHEAD_BEGIN, end[] = AHEAD_END;
    if (strncmp(text, begin, sizeof begin - 1) != 0)
        return 0;
    const char *after = text + sizeof begin - 1;
    after += strspn(after, "0123456789");
    return strncmp(after, end, sizeof end - 1) == 0 ? (size_t) (after - text) + sizeof end - 1 : 0;
}

void hvi_generator_generalize(hvi_buffer *to, const char *text, int shard) {
    while (*text != '\0') {
        const struct number *number = NULL;
        size_t len = match_ahead(text);
        if (len > 0) {
            hvi_buffer_append_text(to, NOW_MS);
            text += len;
            continue;
        }
        for (size_t i = 0; len == 0 && i < sizeof numbers / sizeof *numbers; i++) {
            number = &numbers[i];
            len = match_number(text, number, shard);
        }
        if (len > 0)
            hvi_buffer_append_format(to, "%s@number", number->before);
        else
            hvi_buffer_append_byte(to, *text);
        text += len > 0 ? len : 1;
    }
}
