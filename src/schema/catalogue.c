/*
 * catalogue: what the schemas of shards consist of, as lines of text.
 */
#include "schema/catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "shard/ledger_table.h"
#include "value/generator.h"
#include "value/shard_map.h"

/* ---- the statement ---- */

/* A line that some macros stand for has: the shard; a number, by which lines are ordered first;
 * the thing; what is to be said of it; and text of several lines, or NULL. */
#define EQ      " OPERATOR(pg_catalog.=) "
#define NE      " OPERATOR(pg_catalog.<>) "
#define JOINED  " OPERATOR(pg_catalog.||) "
#define ROLE_OF "pg_catalog.quote_ident(pg_catalog.pg_get_userbyid("

/* The schemas that are asked for. */
#define SCHEMAS                                                           \
    "SELECT n.oid, n.nspname, n.nspowner, n.nspacl,"                      \
    " pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer AS shard" \
    " FROM pg_catalog.pg_namespace n"                                     \
    " WHERE n.nspname" EQ "ANY ($1::pg_catalog.name[])"

/* Is it attached to the root of a stream (src/move/stream.c), while the shard moves, or afterwards
 * for an undo? That is no part of the schema. */
#define IS_STREAMED                                                                               \
    "EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid" EQ         \
    "i.inhparent JOIN pg_catalog.pg_namespace n ON n.oid" EQ "p.relnamespace WHERE i.inhrelid" EQ \
    "c.oid AND n.nspname OPERATOR(pg_catalog.~) '^hypervault_[0-9]{4}_[0-9a-f]{8}(_old)?$')"

/* What has columns or is a sequence, but the ledger. */
#define RELATIONS                                                                            \
    "SELECT s.shard, c.tableoid, c.oid, c.relkind, c.relowner, c.relacl, c.relpersistence,"  \
    " c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relam, c.reltablespace,"    \
    " c.reloptions, c.reloftype, c.relpartbound, pg_catalog.quote_ident(c.relname) AS name," \
    " CASE WHEN c.relkind" EQ "'r' THEN 'table' WHEN c.relkind" EQ "'p' THEN"                \
    " 'partitioned table'"                                                                   \
    " WHEN c.relkind" EQ "'v' THEN 'view' WHEN c.relkind" EQ "'m' THEN 'materialized view'"  \
    " WHEN c.relkind" EQ "'S' THEN 'sequence' WHEN c.relkind" EQ "'f' THEN 'foreign table'"  \
    " ELSE 'composite type' END AS word, " IS_STREAMED " AS is_streamed"                     \
    " FROM schemas s JOIN pg_catalog.pg_class c ON c.relnamespace" EQ "s.oid"                \
    " WHERE c.relkind" EQ "ANY ('{r,p,v,m,S,f,c}'::pg_catalog.\"char\"[])"                   \
    " AND c.relname" NE "'" HVI_LEDGER "'"

/* Types that are made by themselves. */
#define OWN_TYPES                                                                                \
    "SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typowner, t.typacl, t.typbasetype,"   \
    " t.typtypmod, t.typnotnull, t.typdefault FROM pg_catalog.pg_type t WHERE t.typnamespace" EQ \
    "ANY (SELECT oid FROM"                                                                       \
    " schemas) AND t.typtype" EQ "ANY ('{e,d,r,b}'::pg_catalog.\"char\"[]) AND t.typcategory" NE \
    " 'A'"

/* The schema itself. */
#define SCHEMA_LINES                                                            \
    "SELECT s.shard, 1, 'schema'::pg_catalog.text, pg_catalog.concat('owner '," \
    " " ROLE_OF "s.nspowner))), NULL::pg_catalog.text"                          \
    " FROM schemas s"

/* Tables, views, sequences and composite types; the body of a view is its query. */
#define RELATION_LINES                                                                             \
    "SELECT r.shard, 2, pg_catalog.concat(r.word, ' ', r.name), pg_catalog.concat("                \
    " CASE WHEN q.seqrelid IS NOT NULL THEN"                                                       \
    " pg_catalog.concat(pg_catalog.format_type(q.seqtypid, NULL),"                                 \
    " ' start ', q.seqstart, ' increment ', q.seqincrement, ' minimum ', q.seqmin,"                \
    " ' maximum ', q.seqmax, ' cache ', q.seqcache, CASE WHEN q.seqcycle THEN ' cycle' END,"       \
    " (SELECT pg_catalog.concat(' owned by ', o.identity) FROM pg_catalog.pg_depend d"             \
    " CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid)"   \
    " o"                                                                                           \
    " WHERE d.classid" EQ "r.tableoid AND d.objid" EQ "r.oid"                                      \
    " AND d.refclassid" EQ "r.tableoid AND d.deptype" EQ "ANY"                                     \
    " ('{a,i}'::pg_catalog.\"char\"[]))) END,"                                                     \
    " CASE WHEN r.relpersistence" NE "'p' THEN ' unlogged' END,"                                   \
    " CASE WHEN r.relrowsecurity THEN ' row security' END,"                                        \
    " CASE WHEN r.relforcerowsecurity THEN ' forced row security' END,"                            \
    " CASE WHEN r.relkind" EQ "ANY ('{r,p,m}'::pg_catalog.\"char\"[]) AND r.relreplident" NE       \
    " 'd'"                                                                                         \
    " THEN pg_catalog.concat(' replica identity ', r.relreplident) END,"                           \
    " ' access method '" JOINED "m.amname,"                                                        \
    " ' tablespace '" JOINED "pg_catalog.quote_ident(b.spcname),"                                  \
    " ' options '" JOINED "r.reloptions::pg_catalog.text,"                                         \
    " ' of type '" JOINED "CASE WHEN r.reloftype" NE "0 THEN"                                      \
    " pg_catalog.format_type(r.reloftype, NULL) END,"                                              \
    " ' partition by '" JOINED "CASE WHEN r.relkind" EQ "'p' THEN"                                 \
    " pg_catalog.pg_get_partkeydef(r.oid) END,"                                                    \
    " CASE WHEN NOT r.is_streamed THEN"                                                            \
    " pg_catalog.concat(' partition '" JOINED "pg_catalog.pg_get_expr(r.relpartbound, r.oid),"     \
    " ' inherits '" JOINED "(SELECT"                                                               \
    " pg_catalog.string_agg(i.inhparent::pg_catalog.regclass::pg_catalog.text, ', '"               \
    " ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i WHERE i.inhrelid" EQ "r.oid)) END,"       \
    " (SELECT pg_catalog.concat(' server ', pg_catalog.quote_ident(v.srvname), ' options '" JOINED \
    "f.ftoptions::pg_catalog.text)"                                                                \
    " FROM pg_catalog.pg_foreign_table f JOIN pg_catalog.pg_foreign_server v ON v.oid" EQ          \
    " f.ftserver"                                                                                  \
    " WHERE r.relkind" EQ "'f' AND f.ftrelid" EQ "r.oid),"                                         \
    " ' owner ', " ROLE_OF "r.relowner))),"                                                        \
    " CASE WHEN r.relkind" EQ "ANY ('{v,m}'::pg_catalog.\"char\"[]) THEN"                          \
    " pg_catalog.pg_get_viewdef(r.oid) END"                                                        \
    " FROM relations r LEFT JOIN pg_catalog.pg_sequence q ON q.seqrelid" EQ "r.oid"                \
    " LEFT JOIN pg_catalog.pg_am m ON m.oid" EQ "r.relam AND m.amname" NE "'heap'"                 \
    " LEFT JOIN pg_catalog.pg_tablespace b ON b.oid" EQ "r.reltablespace"

/* Columns, with their place among those that are not dropped. Of their options, only those that
 * a user can have set. */
#define COLUMN_LINES                                                                            \
    "SELECT r.shard, 3, pg_catalog.concat('column ', r.name, '.',"                              \
    " pg_catalog.quote_ident(a.attname)),"                                                      \
    " pg_catalog.concat(pg_catalog.format_type(a.atttypid, a.atttypmod),"                       \
    " CASE WHEN a.attcollation" NE "t.typcollation THEN (SELECT pg_catalog.concat(' collate '," \
    " pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(o.collname)) FROM"         \
    " pg_catalog.pg_collation o"                                                                \
    " JOIN pg_catalog.pg_namespace n ON n.oid" EQ "o.collnamespace WHERE o.oid" EQ              \
    " a.attcollation) END,"                                                                     \
    " CASE WHEN a.attnotnull THEN ' not null' END,"                                             \
    " CASE WHEN a.attidentity" EQ "'a' THEN ' generated always as identity'"                    \
    " WHEN a.attidentity" EQ "'d' THEN ' generated by default as identity' END,"                \
    " CASE WHEN a.attgenerated" NE "'' THEN ' generated ' ELSE ' default ' END" JOINED          \
    " pg_catalog.pg_get_expr(d.adbin, d.adrelid),"                                              \
    " CASE WHEN a.attstorage" NE "t.typstorage THEN pg_catalog.concat(' storage ',"             \
    " a.attstorage) END,"                                                                       \
    " ' statistics '" JOINED "CASE WHEN a.attstattarget OPERATOR(pg_catalog.>=) 0 THEN"         \
    " a.attstattarget::pg_catalog.text END,"                                                    \
    " (SELECT pg_catalog.concat(' options ', pg_catalog.string_agg(w.word, ' ' ORDER BY"        \
    " w.word)) FROM pg_catalog.unnest(a.attoptions) AS w(word)"                                 \
    " WHERE w.word OPERATOR(pg_catalog.~) '^n_distinct' HAVING pg_catalog.count(*)"             \
    " OPERATOR(pg_catalog.>) 0::bigint),"                                                       \
    " ' options '" JOINED "a.attfdwoptions::pg_catalog.text,"                                   \
    " CASE WHEN NOT (a.attislocal OR r.is_streamed) THEN ' inherited' END,"                     \
    " ', number ', a.place), NULL"                                                              \
    " FROM relations r JOIN LATERAL (SELECT *, pg_catalog.row_number() OVER (ORDER BY attnum)"  \
    " AS place"                                                                                 \
    " FROM pg_catalog.pg_attribute WHERE attrelid" EQ "r.oid AND attnum OPERATOR(pg_catalog.>)" \
    " 0::smallint AND NOT attisdropped) a"                                                      \
    " ON r.relkind" NE "'S'"                                                                    \
    " JOIN pg_catalog.pg_type t ON t.oid" EQ "a.atttypid"                                       \
    " LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid" EQ "a.attrelid AND d.adnum" EQ "a.attnum" \
    " AND a.atthasdef"

/* A column that is NOT NULL says so itself. */
#define CONSTRAINT_LINES                                                                          \
    "SELECT r.shard, 4, pg_catalog.concat('constraint ', r.name, '.',"                            \
    " pg_catalog.quote_ident(k.conname)),"                                                        \
    " pg_catalog.pg_get_constraintdef(k.oid), NULL"                                               \
    " FROM relations r JOIN pg_catalog.pg_constraint k ON k.conrelid" EQ "r.oid AND k.contype" NE \
    "'n'"

/* Indexes, those of constraints too. */
#define INDEX_LINES                                                         \
    "SELECT r.shard, 5, pg_catalog.concat('index ', r.name, '.',"           \
    " pg_catalog.quote_ident(c.relname)),"                                  \
    " pg_catalog.concat(pg_catalog.pg_get_indexdef(x.indexrelid),"          \
    " CASE WHEN NOT x.indisvalid THEN ' (not valid)' END,"                  \
    " CASE WHEN x.indisclustered THEN ' (cluster)' END,"                    \
    " CASE WHEN x.indisreplident THEN ' (replica identity)' END,"           \
    " ' tablespace '" JOINED "pg_catalog.quote_ident(b.spcname)), NULL"     \
    " FROM relations r JOIN pg_catalog.pg_index x ON x.indrelid" EQ "r.oid" \
    " JOIN pg_catalog.pg_class c ON c.oid" EQ "x.indexrelid"                \
    " LEFT JOIN pg_catalog.pg_tablespace b ON b.oid" EQ "c.reltablespace"

/* Functions, procedures and aggregates; the body is their definition. */
#define FUNCTION_LINES                                                                           \
    "SELECT s.shard, 6, pg_catalog.concat(CASE WHEN p.prokind" EQ "'a' THEN 'aggregate ' WHEN"   \
    " p.prokind" EQ "'p' THEN 'procedure ' ELSE 'function ' END,"                                \
    " pg_catalog.quote_ident(p.proname), '(',"                                                   \
    " pg_catalog.pg_get_function_identity_arguments(p.oid), ')'),"                               \
    " pg_catalog.concat('options '" JOINED "(SELECT pg_catalog.concat_ws(' ', g.aggkind,"        \
    " g.aggtransfn, g.aggfinalfn, g.aggcombinefn,"                                               \
    " g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn,"           \
    " pg_catalog.format_type(g.aggtranstype, NULL), g.agginitval, g.aggminitval)"                \
    " FROM pg_catalog.pg_aggregate g WHERE p.prokind" EQ "'a' AND g.aggfnoid::pg_catalog.oid" EQ \
    " p.oid),"                                                                                   \
    " ' owner ', " ROLE_OF "p.proowner))),"                                                      \
    " CASE WHEN p.prokind" NE "'a' THEN pg_catalog.pg_get_functiondef(p.oid) END"                \
    " FROM schemas s JOIN pg_catalog.pg_proc p ON p.pronamespace" EQ "s.oid"

/* Triggers. */
#define TRIGGER_LINES                                                                        \
    "SELECT r.shard, 7, pg_catalog.concat('trigger ', r.name, '.',"                          \
    " pg_catalog.quote_ident(g.tgname)),"                                                    \
    " pg_catalog.concat(CASE WHEN g.tgenabled" NE "'O' THEN pg_catalog.concat('(enabled: '," \
    " g.tgenabled, ') ') END,"                                                               \
    " pg_catalog.pg_get_triggerdef(g.oid)), NULL"                                            \
    " FROM relations r JOIN pg_catalog.pg_trigger g ON g.tgrelid" EQ "r.oid AND NOT"         \
    " g.tgisinternal"

/* Rules, but those that make a view. */
#define RULE_LINES                                                                              \
    "SELECT r.shard, 8, pg_catalog.concat('rule ', r.name, '.',"                                \
    " pg_catalog.quote_ident(w.rulename)),"                                                     \
    " CASE WHEN w.ev_enabled" NE "'O' THEN pg_catalog.concat('(enabled: ', w.ev_enabled, ')')"  \
    " END,"                                                                                     \
    " pg_catalog.pg_get_ruledef(w.oid)"                                                         \
    " FROM relations r JOIN pg_catalog.pg_rewrite w ON w.ev_class" EQ "r.oid AND w.rulename" NE \
    " '_RETURN'"

/* Policies of row security. */
#define POLICY_LINES                                                                         \
    "SELECT r.shard, 9, pg_catalog.concat('policy ', r.name, '.',"                           \
    " pg_catalog.quote_ident(p.polname)),"                                                   \
    " pg_catalog.concat(CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END," \
    " ' for ', p.polcmd, ' to ',"                                                            \
    " (SELECT pg_catalog.string_agg(CASE WHEN o.role" EQ "0 THEN 'PUBLIC' ELSE"              \
    " " ROLE_OF "o.role)) END, ', '"                                                         \
    " ORDER BY pg_catalog.pg_get_userbyid(o.role)) FROM pg_catalog.unnest(p.polroles) AS"    \
    " o(role)),"                                                                             \
    " ' using '" JOINED "pg_catalog.pg_get_expr(p.polqual, p.polrelid),"                     \
    " ' with check '" JOINED "pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)), NULL"     \
    " FROM relations r JOIN pg_catalog.pg_policy p ON p.polrelid" EQ "r.oid"

/* Types but those that come with a table or another type. */
#define TYPE_LINES                                                                         \
    "SELECT s.shard, 10, pg_catalog.concat(CASE WHEN t.typtype" EQ "'e' THEN 'enum ' WHEN" \
    " t.typtype" EQ "'d' THEN 'domain '"                                                   \
    " WHEN t.typtype" EQ "'r' THEN 'range ' ELSE 'type ' END,"                             \
    " pg_catalog.quote_ident(t.typname)),"                                                 \
    " pg_catalog.concat(CASE WHEN t.typtype" EQ "'e' THEN (SELECT pg_catalog.concat('(',"  \
    " pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ', ' ORDER BY"          \
    " e.enumsortorder), ')')"                                                              \
    " FROM pg_catalog.pg_enum e WHERE e.enumtypid" EQ "t.oid) END,"                        \
    " CASE WHEN t.typtype" EQ "'d' THEN pg_catalog.concat("                                \
    " pg_catalog.format_type(t.typbasetype, t.typtypmod),"                                 \
    " CASE WHEN t.typnotnull THEN ' not null' END, ' default '" JOINED "t.typdefault,"     \
    " (SELECT ' '" JOINED "pg_catalog.string_agg(pg_catalog.concat('constraint ',"         \
    " pg_catalog.quote_ident(k.conname), ' ',"                                             \
    " pg_catalog.pg_get_constraintdef(k.oid)), ' ' ORDER BY k.conname) FROM"               \
    " pg_catalog.pg_constraint k"                                                          \
    " WHERE k.contypid" EQ "t.oid AND k.contype" NE "'n')) END,"                           \
    " (SELECT pg_catalog.concat(' of ', pg_catalog.format_type(g.rngsubtype, NULL)) FROM"  \
    " pg_catalog.pg_range g"                                                               \
    " WHERE t.typtype" EQ "'r' AND g.rngtypid" EQ "t.oid),"                                \
    " ' owner ', " ROLE_OF "t.typowner))), NULL"                                           \
    " FROM own_types t JOIN schemas s ON s.oid" EQ "t.typnamespace"

/* Whatever else is in the schema: operators, collations, statistics … */
#define OTHER_LINES                                                                     \
    "SELECT s.shard, 11, pg_catalog.concat(o.type, ' ', o.identity), NULL,"             \
    " CASE WHEN o.type" EQ "'statistics object' THEN"                                   \
    " pg_catalog.pg_get_statisticsobjdef(d.objid) END"                                  \
    " FROM schemas s JOIN pg_catalog.pg_depend d ON d.refclassid" EQ                    \
    " 'pg_catalog.pg_namespace'::pg_catalog.regclass"                                   \
    " AND d.refobjid" EQ "s.oid"                                                        \
    " CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) o"        \
    " WHERE NOT d.classid" EQ "ANY (ARRAY['pg_catalog.pg_class', 'pg_catalog.pg_proc'," \
    " 'pg_catalog.pg_type',"                                                            \
    " 'pg_catalog.pg_default_acl']::pg_catalog.regclass[]::pg_catalog.oid[])"

/* Rights, also those that come with an owner: a dump leaves those out. */
#define GRANT_LINES                                                                             \
    "SELECT shard, 12, pg_catalog.concat('grant on ', what, ' to ', grantee, ':'),"             \
    " pg_catalog.string_agg(DISTINCT privilege, ', ' ORDER BY privilege), NULL"                 \
    " FROM (SELECT o.shard, o.what, CASE WHEN x.grantee" EQ "0 THEN 'PUBLIC' ELSE"              \
    " " ROLE_OF "x.grantee)) END AS grantee,"                                                   \
    " pg_catalog.concat(x.privilege_type, CASE WHEN x.is_grantable THEN ' with grant option'"   \
    " END) COLLATE pg_catalog.\"C\" AS privilege"                                               \
    " FROM (SELECT shard, 'schema' AS what, nspacl AS acl, 'n'::pg_catalog.\"char\" AS kind,"   \
    " nspowner AS owner FROM schemas"                                                           \
    " UNION ALL SELECT shard, pg_catalog.concat(word, ' ', name), relacl,"                      \
    " CASE WHEN relkind" EQ "'S' THEN 's'::pg_catalog.\"char\" ELSE 'r'::pg_catalog.\"char\""   \
    " END, relowner FROM relations WHERE relkind" NE "'c'"                                      \
    " UNION ALL SELECT r.shard, pg_catalog.concat('column ', r.name, '.',"                      \
    " pg_catalog.quote_ident(a.attname)), a.attacl, 'c'::pg_catalog.\"char\", r.relowner"       \
    " FROM relations r JOIN pg_catalog.pg_attribute a ON a.attrelid" EQ "r.oid AND a.attacl IS" \
    " NOT NULL AND NOT a.attisdropped"                                                          \
    " UNION ALL SELECT s.shard, pg_catalog.concat('function ',"                                 \
    " pg_catalog.quote_ident(p.proname), '(',"                                                  \
    " pg_catalog.pg_get_function_identity_arguments(p.oid), ')'),"                              \
    " p.proacl, 'f'::pg_catalog.\"char\", p.proowner FROM schemas s JOIN pg_catalog.pg_proc p"  \
    " ON p.pronamespace" EQ "s.oid"                                                             \
    " UNION ALL SELECT s.shard, pg_catalog.concat('type ', pg_catalog.quote_ident(t.typname))," \
    " t.typacl, 'T'::pg_catalog.\"char\", t.typowner"                                           \
    " FROM own_types t JOIN schemas s ON s.oid" EQ "t.typnamespace"                             \
    " UNION ALL SELECT s.shard, pg_catalog.concat('what ', " ROLE_OF                            \
    "d.defaclrole)), ' makes later (', d.defaclobjtype, ')'), d.defaclacl, NULL, d.defaclrole"  \
    " FROM schemas s JOIN pg_catalog.pg_default_acl d ON d.defaclnamespace" EQ "s.oid) o"       \
    " CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(o.acl, pg_catalog.acldefault(o.kind,"   \
    " o.owner))) x) grants"                                                                     \
    " GROUP BY shard, what, grantee"

const char hvi_catalogue_sql[] =
    "WITH schemas AS MATERIALIZED (" SCHEMAS "),"
    " relations AS MATERIALIZED (" RELATIONS "),"
    " own_types AS MATERIALIZED (" OWN_TYPES ") " SCHEMA_LINES " UNION ALL " RELATION_LINES
    " UNION ALL " COLUMN_LINES " UNION ALL " CONSTRAINT_LINES " UNION ALL " INDEX_LINES
    " UNION ALL " FUNCTION_LINES " UNION ALL " TRIGGER_LINES " UNION ALL " RULE_LINES
    " UNION ALL " POLICY_LINES " UNION ALL " TYPE_LINES " UNION ALL " OTHER_LINES
    " UNION ALL " GRANT_LINES " ORDER BY 1";

void hvi_catalogue_parameter(hvi_buffer *parameter, const int *shards, size_t count) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_buffer_append_byte(parameter, '{');
    for (size_t i = 0; i < count; i++) {
        hvi_schema_name(shards[i], schema);
        hvi_buffer_append_format(parameter, "%s%s", i > 0 ? "," : "", schema);
    }
    hvi_buffer_append_byte(parameter, '}');
}

/* ---- its answer ---- */

enum { SHARD, RANK, NAME, DETAILS, TEXT };

static const hvi_form form = {
    .asked = "the contents of schemas",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_SHARD, HVI_IS_INT4, HVI_IS_BYTES, HVI_IS_BYTES | HVI_OR_NULL,
                HVI_IS_BYTES | HVI_OR_NULL},
};

hv_status hvi_catalogue_check(const PGresult *result, const char *server, hv_error **error) {
    return hvi_result_check(result, &form, server, -1, error);
}

/* ---- texts ---- */

static bool is_of_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

void hvi_catalogue_generalize(hvi_buffer *to, const char *text, int shard) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    size_t len = strlen(schema);
    const char *begin = text, *found;
    while ((found = strstr(text, schema)) != NULL) {
        bool is_word = (found == begin || !is_of_word(found[-1])) && !is_of_word(found[len]);
        hvi_buffer_append(to, text, (size_t) (found - text));
        hvi_buffer_append_text(to, is_word ? "@shard" : schema);
        text = found + len;
    }
    hvi_buffer_append_text(to, text);
}

/* Append text to a line, of which there must remain one: control characters and the like as \xNN. A
 * backslash that looks like the beginning of one is shown in the same way. */
static void append_shown(hvi_buffer *line, const char *text, size_t len) {
    uint32_t code;
    for (size_t at = 0; at < len;) {
        size_t size = hvi_utf8_decode(text + at, len - at, &code);
        bool is_escape = text[at] == '\\' && at + 1 < len && text[at + 1] == 'x';
        if (size > 0 && !hvi_acts_on_terminal(code) && !is_escape)
            hvi_buffer_append(line, text + at, size);
        else
            for (size_t i = 0; i < (size > 0 ? size : 1); i++)
                hvi_buffer_append_format(line, "\\x%02x", (unsigned char) text[at + i]);
        at += size > 0 ? size : 1;
    }
}

/* One row, with general texts. */
typedef struct item {
    int64_t rank;
    char *name, *details, *text; /* owned; the last may be NULL */
} item;

static void free_items(item *items, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(items[i].name);
        free(items[i].details);
        free(items[i].text);
    }
    free(items);
}

static char *general(const char *text, int shard) {
    hvi_buffer made = HVI_BUFFER_EMPTY;
    hvi_catalogue_generalize(&made, text != NULL ? text : "", shard);
    return hvi_buffer_take(&made);
}

/* The definitions of the functions that make keys have the shard's number in them. */
static char *general_of_function(const char *text, int shard) {
    char *made = general(text, shard);
    if (made == NULL)
        return NULL;
    hvi_buffer without = HVI_BUFFER_EMPTY;
    hvi_generator_generalize(&without, made, shard);
    free(made);
    return hvi_buffer_take(&without);
}

static bool makes_keys(const char *name) {
    return strncmp(name, "function next_id(", strlen("function next_id(")) == 0 ||
           strncmp(name, "function reserve_ids(", strlen("function reserve_ids(")) == 0;
}

static bool read_item(item *to, const PGresult *result, int row, int shard) {
    const char *name = hvi_text_at(result, row, NAME), *text = hvi_text_at(result, row, TEXT);
    to->rank = hvi_integer_at(result, row, RANK);
    to->name = general(name, shard);
    to->details = general(hvi_text_at(result, row, DETAILS), shard);
    if (text != NULL)
        to->text = makes_keys(name) ? general_of_function(text, shard) : general(text, shard);
    return to->name != NULL && to->details != NULL && (text == NULL || to->text != NULL);
}

static int compare(const void *left, const void *right) {
    const item *a = left, *b = right;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    int names = strcmp(a->name, b->name);
    return names != 0 ? names : strcmp(a->details, b->details);
}

static void append_item(hvi_buffer *description, const item *one) {
    const char *details = one->details + strspn(one->details, " ");
    append_shown(description, one->name, strlen(one->name));
    if (*details != '\0')
        hvi_buffer_append_byte(description, ' ');
    append_shown(description, details, strlen(details));
    hvi_buffer_append_byte(description, '\n');
    for (const char *line = one->text; line != NULL && *line != '\0';) {
        size_t len = strcspn(line, "\n");
        append_shown(description, one->name, strlen(one->name));
        hvi_buffer_append_text(description, " | ");
        append_shown(description, line, len);
        hvi_buffer_append_byte(description, '\n');
        line += len + (line[len] == '\n');
    }
}

void hvi_catalogue_describe(const PGresult *result, int shard, hvi_buffer *description) {
    int first = 0, rows = PQntuples(result);
    while (first < rows && hvi_integer_at(result, first, SHARD) < shard)
        first++;
    int end = first;
    while (end < rows && hvi_integer_at(result, end, SHARD) == shard)
        end++;
    size_t count = (size_t) (end - first);
    item *items = calloc(count + 1, sizeof *items);
    bool ok = items != NULL;
    for (size_t i = 0; ok && i < count; i++)
        ok = read_item(&items[i], result, first + (int) i, shard);
    if (!ok)
        hvi_buffer_break(description);
    else if (count > 0) {
        qsort(items, count, sizeof *items, compare);
        for (size_t i = 0; i < count; i++)
            append_item(description, &items[i]);
    }
    if (items != NULL)
        free_items(items, count);
}
