/*
 * hv import: store every row of a file.
 */
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "import/run.h"

#define MAX_JOBS 64

enum {
    OPTION_KIND = 1,
    OPTION_SHARD,
    OPTION_BY,
    OPTION_FORMAT,
    OPTION_REJECTS,
    OPTION_JOBS,
    OPTION_RETRY_FOR,
    OPTION_EXPORTED,
    OPTION_RESUME,
    OPTION_AGAIN,
    OPTION_SKIP,
    OPTION_LIMIT,
};

static const command_option options[] = {
    {"kind", 'k', "N", OPTION_KIND, "the kind of all entities, -32768 to 32767"},
    {"exported", 0, NULL, OPTION_EXPORTED, "rows of hv export: keep their keys and kinds"},
    {"resume", 0, NULL, OPTION_RESUME, "continue an import that ended early"},
    {"again", 0, NULL, OPTION_AGAIN, "import a file again that was imported before"},
    {"shard", 's', "N", OPTION_SHARD, "store all rows in this shard"},
    {"by", 'b', "NAME", OPTION_BY, "choose each row's shard by its attribute NAME"},
    {"format", 'f', "FORMAT", OPTION_FORMAT, "ndjson, csv or tsv; default: by the file's ending",
     "ndjson csv tsv"},
    {"rejects", 0, "FILE", OPTION_REJECTS, "for rows not stored; default: NAME.rejects, here"},
    {"jobs", 'j', "N", OPTION_JOBS, "connections to each server, 1 to 64; default: 2"},
    {"retry-for", 0, "TIME", OPTION_RETRY_FOR,
     "how long to retry temporary failures; default: 30s"},
    {"skip", 0, "N", OPTION_SKIP, "skip the first N rows"},
    {"limit", 0, "N", OPTION_LIMIT, "end after N rows"},
    {NULL, 0, NULL, 0, NULL},
};

static const row_format *argument_format(const arguments *args, const char *text) {
    const row_format *format = row_format_named(text);
    if (format == NULL)
        usage_error(args, "The formats are ndjson, csv and tsv.", "unknown format \"%s\"", text);
    return format;
}

static import_request read_request(arguments *args) {
    import_request asked = {.shard = -1, .jobs = 2, .retry_for = 30000, .limit = INT64_MAX};
    int id;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_KIND:
            asked.kind = argument_kind(args, args->value);
            asked.has_kind = true;
            break;
        case OPTION_SHARD:
            asked.shard = argument_shard(args, args->value);
            break;
        case OPTION_BY:
            asked.by = args->value;
            break;
        case OPTION_FORMAT:
            asked.format = argument_format(args, args->value);
            break;
        case OPTION_REJECTS:
            asked.rejects = args->value;
            break;
        case OPTION_JOBS:
            asked.jobs = argument_integer(args, "--jobs", args->value, 1, MAX_JOBS);
            break;
        case OPTION_RETRY_FOR:
            asked.retry_for = argument_duration(args, "--retry-for", args->value);
            break;
        case OPTION_EXPORTED:
            asked.exported = true;
            break;
        case OPTION_RESUME:
            asked.resume = true;
            break;
        case OPTION_AGAIN:
            asked.again = true;
            break;
        case OPTION_SKIP:
            asked.skip = argument_integer(args, "--skip", args->value, 0, INT64_MAX);
            break;
        case OPTION_LIMIT:
            asked.limit = argument_integer(args, "--limit", args->value, 0, INT64_MAX);
            break;
        }
    }
    arguments_expect(args, 1, 1);
    if (!asked.has_kind && !asked.exported)
        usage_error(args,
                    "Give the kind of the entities: --kind 1; or --exported, if they are from hv "
                    "export.",
                    "--kind is missing");
    if (asked.exported && (asked.has_kind || asked.shard >= 0 || asked.by != NULL))
        usage_error(args, "Rows of hv export have their own kind and shard.",
                    "--exported excludes --kind, --shard and --by");
    if (asked.again && asked.resume)
        usage_error(args, NULL, "--again and --resume exclude each other");
    if (asked.shard >= 0 && asked.by != NULL)
        usage_error(args, NULL, "--shard and --by exclude each other");
    asked.path = args->items[0];
    if (asked.format == NULL)
        asked.format = row_format_of_file(asked.path);
    return asked;
}

static int run(arguments *args) {
    import_request request = read_request(args);
    return import_run(&request);
}

const command command_import = {
    .name = "import",
    .synopsis =
        "FILE|- --kind N [--shard N | --by NAME] [OPTION]...\nFILE|- --exported [OPTION]...",
    .summary = "store every row of a file as an entity",
    .help = "FILE is one of these, in UTF-8; - is standard input.\n"
            "\n"
            "  ndjson  .ndjson, .jsonl, .json: a JSON object on each line. A string is stored\n"
            "          without its quotes, null as NULL, a number, true or false as it is\n"
            "          written, an object or array as compact JSON. If a name is given twice,\n"
            "          the last value counts.\n"
            "  csv     .csv: as in RFC 4180. The first line names the attributes. An empty\n"
            "          field is NULL, \"\" is empty text.\n"
            "  tsv     .tsv: as COPY writes its text format, with a first line that names the\n"
            "          attributes. \\t, \\n, \\r, \\\\ are escapes, \\N is NULL.\n"
            "\n"
            "Another ending, and standard input, need --format, unless the first character is\n"
            "a brace: then it is ndjson. Empty lines are not rows, except under a header with\n"
            "one name. A row has at most 64 MiB.\n"
            "\n"
            "Without --shard and --by all shards take turns. With --by the shard is the one that\n"
            "`hv key --of` shows for the value: number H modulo N, from 0, of the N shards of\n"
            "the option `spread` in ascending order. H is the 64-bit FNV-1a hash of the value's\n"
            "bytes, 5803779529149266183 for \"alice\". Without the option these are all shards of\n"
            "the configuration, unless an earlier import with --by had others: then the import\n"
            "is refused, and the error has the line to write into the configuration.\n"
            "With --exported the file is from `hv export`: entities keep their keys, and no\n"
            "shard makes these again. If the same entity exists under its key, nothing is\n"
            "changed; if a different one does, the row is rejected (HV_CONFLICT). Keys may be\n"
            "strings or numbers, but a file whose keys were rounded by a program, as jq before\n"
            "1.7 and JavaScript do with numbers, is refused.\n"
            "Further columns of entities get their defaults: a note names them, and with --json\n"
            "columns_left_out.\n"
            "\n"
            "Rows go to all servers at once, through COPY, some thousand in a transaction. A\n"
            "row that is malformed, refused by the server or dropped by a trigger is rejected,\n"
            "and the others are stored. It goes to the rejects file, with its text for another\n"
            "try. The file is made when it is needed and never replaces another:\n"
            "\n"
            "  {\"line\": 7, \"number\": 6, \"import\": \"...\", \"shard\": 3, \"status\": "
            "\"HV_REFUSED\",\n"
            "   \"reason\": \"...\", \"row\": \"...\"}\n"
            "\n"
            "Temporary failures are retried for --retry-for. After a malformed CSV row reading\n"
            "continues at the next line. A quote that is never closed, or not within 64 MiB,\n"
            "spoils the line that it opens in and no other.\n"
            "\n"
            "The import ends early if FILE is not in its format (none of the first 20 rows is\n"
            "well-formed: then none is rejected either); if an error would hit every row\n"
            "(login refused, shards not made, a server that stays down); if rejected rows\n"
            "cannot be written; and after Ctrl-C or SIGTERM, when the rows in progress are\n"
            "finished first: a second one ends it at once. After that, or a kill, the same\n"
            "command with --resume continues: no row is stored or rejected twice, and none is\n"
            "left out. How far it has come is recorded in the databases, in\n"
            "hypervault.imports; the same input must be given again, with the same options and\n"
            "shards. With --resume an import that is complete does nothing, and one that was\n"
            "not begun begins.\n"
            "\n"
            "Without --resume every row would be stored a second time. So if rows of a file of\n"
            "this name, size and content were imported before, with the same --kind, hv asks on\n"
            "a terminal, and ends with 1 in a script: --again imports them again. This is not\n"
            "known for pipes, and not asked with --exported, which stores nothing twice.\n"
            "\n"
            "Exit status: 0 if every row was stored, 1 if not; after an interrupt hv dies of\n"
            "the signal, which shells show as 130 or 143.",
    .options = options,
    .examples = "hv import people.csv --kind 1\n"
                "hv import people.csv --kind 1 --by email --rejects bad.ndjson\n"
                "hv import people.csv --kind 1 --by email --resume\n"
                "zcat people.ndjson.gz | hv import - --kind 1 --shard 12\n"
                "hv import --exported backup/shard0012.ndjson\n"
                "(head -1 people.csv; jq -r .row people.csv.rejects) > again.csv",
    .run = run,
};
