/*
 * reader: rows of attributes from NDJSON, CSV or TSV, one after the other, in bounded memory.
 *
 * Holds always: data[start .. end) was read and not yet returned as a row; `line` is the line that
 * data[start] is in. It grows as the longest row needs, at most to max_bytes and one piece.
 */
#include "rows/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

/* How much is read at once. */
#define PIECE ((size_t) 256 << 10)
/* How much is kept of a row that is too long. */
#define TRUNCATED_BYTES ((size_t) 1000)

struct row_reader {
    row_input input;
    void *context;
    const row_format *format; /* NULL: not yet known */
    size_t max_bytes;

    char *data;
    size_t start;
    size_t end;
    size_t cap;
    bool at_end; /* of the input; data may still hold rows */

    bool started;      /* byte order mark and header were read */
    bool finished;     /* nothing but ROW_END will be returned */
    int64_t line;      /* of data[start] */
    int64_t rows;      /* passed so far */
    int64_t bytes;     /* passed since the last row that was returned or skipped */
    char unclosed[64]; /* of the present record */
    row_header header;
    row_scratch scratch;

    bool trusted;          /* the format is right, as far as can be seen */
    row *tried[ROW_TRIAL]; /* owned: the first rows, read to find that out, … */
    size_t tried_count;    /* … so many … */
    size_t tried_given;    /* … … of which so many were returned */
};

/* ---- Formats --------------------------------------------------------------------------------- */

static const row_format *const formats[] = {&row_ndjson, &row_csv, &row_tsv};

const row_format *row_format_named(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcasecmp(name, formats[i]->name) == 0)
            return formats[i];
    }
    return NULL;
}

const row_format *row_format_of_file(const char *path) {
    size_t len = strlen(path);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        for (const char *const *ending = formats[i]->endings; *ending != NULL; ending++) {
            size_t size = strlen(*ending);
            if (len > size && strcasecmp(path + len - size, *ending) == 0)
                return formats[i];
        }
    }
    return NULL;
}

const char *row_format_name(const row_format *format) {
    return format->name;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

void row_free(row *old) {
    if (old == NULL)
        return;
    free(old->fault);
    hv_dict_free(old->dict);
    free(old);
}

/* A copy of a record without its dict, or NULL. One block of memory, because there are many
 * rows. */
static row *row_new(const row_record *record) {
    row *made = malloc(sizeof *made + record->len);
    if (made == NULL)
        return NULL;
    char *text = (char *) (made + 1);
    memcpy(text, record->text, record->len);
    *made = (row){.line = record->line, .text = text, .text_len = record->len};
    return made;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

row_reader *row_reader_new(const row_format *format, size_t max_bytes, row_input input,
                           void *context) {
    row_reader *reader = calloc(1, sizeof *reader);
    if (reader != NULL)
        *reader = (row_reader){.input = input,
                               .context = context,
                               .format = format,
                               .max_bytes = max_bytes,
                               .line = 1};
    return reader;
}

void row_reader_watch(row_reader *reader, const char *name) {
    reader->scratch.watched = name;
}

/* Free the first rows that are still there. */
static void forget_tried(row_reader *reader) {
    while (reader->tried_given < reader->tried_count)
        row_free(reader->tried[reader->tried_given++]);
    reader->tried_count = reader->tried_given = 0;
}

void row_reader_free(row_reader *reader) {
    if (reader == NULL)
        return;
    forget_tried(reader);
    row_header_fini(&reader->header);
    row_text_fini(&reader->scratch.name);
    row_text_fini(&reader->scratch.value);
    free(reader->data);
    free(reader);
}

const row_format *row_reader_format(const row_reader *reader) {
    return reader->format;
}

/* Set the fault that the input as a whole failed, at no line. */
static row_result input_failed(row_fault *fault, const char *why) {
    row_fault_line(fault, 0, "%s", why);
    return ROW_FAILED;
}

/* Read another piece, or set at_end. */
static row_result fill(row_reader *reader, row_fault *fault) {
    size_t held = reader->end - reader->start;
    if (reader->start > 0 && held > 0)
        memmove(reader->data, reader->data + reader->start, held);
    reader->start = 0;
    reader->end = held;
    if (reader->cap - held < PIECE) {
        size_t cap = held + PIECE > 2 * reader->cap ? held + PIECE : 2 * reader->cap;
        char *data = realloc(reader->data, cap);
        if (data == NULL)
            return input_failed(fault, "out of memory");
        reader->data = data;
        reader->cap = cap;
    }
    ssize_t got = reader->input(reader->context, reader->data + held, PIECE);
    if (got < 0)
        return errno == ECANCELED ? ROW_CANCELED : input_failed(fault, strerror(errno));
    reader->end += (size_t) got;
    reader->at_end = got == 0;
    return ROW_READ;
}

/* ---- Records --------------------------------------------------------------------------------- */

/* For formats whose rows are lines. */
static size_t find_newline(row_scan *scan, const char *text, size_t len) {
    const char *found = len > scan->at ? memchr(text + scan->at, '\n', len - scan->at) : NULL;
    scan->at = found != NULL ? (size_t) (found - text) : len;
    return scan->at;
}

/* Remove the part of a character that cutting the text may have left at its end. */
static size_t whole_characters(const char *text, size_t len) {
    size_t whole = len;
    while (whole > 0 && len - whole < 3 && ((unsigned char) text[whole - 1] & 0xC0) == 0x80)
        whole--;
    if (whole > 0 && (unsigned char) text[whole - 1] >= 0xC0)
        whole--;
    return row_text_prefix(text + whole, len - whole) == len - whole ? len : whole;
}

/* The row is too long: keep its first `kept` bytes and drop the rest, up to the first line end
 * after `from` bytes. *lines receives how many lines were dropped. */
static row_result forget_rest(row_reader *reader, size_t kept, size_t from, int64_t *lines,
                              row_fault *fault) {
    *lines = 0;
    for (;;) {
        char *text = reader->data + reader->start;
        size_t held = reader->end - reader->start;
        const char *found = held > from ? memchr(text + from, '\n', held - from) : NULL;
        size_t end = found != NULL ? (size_t) (found - text) : held;
        *lines += count_lines(text + kept, end - kept);
        reader->bytes += (int64_t) (end - kept);
        memmove(text + kept, text + end, held - end);
        reader->end -= end - kept;
        if (found != NULL || reader->at_end)
            return ROW_READ;
        row_result result = fill(reader, fault);
        if (result != ROW_READ)
            return result;
        from = kept;
    }
}

/* "20 bytes", "64 MiB": the longest row. */
static const char *limit_text(char text[32], const row_reader *reader) {
    bool whole = reader->max_bytes % ((size_t) 1 << 20) == 0;
    snprintf(text, 32, "%zu %s", whole ? reader->max_bytes >> 20 : reader->max_bytes,
             whole ? "MiB" : "bytes");
    return text;
}

/* A row's quotes are wrong, and it is cut: explain the one that opens in its last line. Its end was
 * searched for in `seen` bytes. */
static void explain_cut(row_reader *reader, row_record *record, size_t seen, bool ended) {
    char limit[32];
    if (ended)
        snprintf(reader->unclosed, sizeof reader->unclosed,
                 "closed only in line %lld, where more text follows",
                 (long long) (reader->line + count_lines(record->text, seen)));
    else if (seen > reader->max_bytes)
        snprintf(reader->unclosed, sizeof reader->unclosed, "not closed within %s",
                 limit_text(limit, reader));
    else
        return;
    record->unclosed = reader->unclosed;
}

/*
 * The next record, empty or not. Its text stays valid until the next call.
 *
 * Its end is searched for in max_bytes and one more byte, never further. So the records do not
 * depend on the sizes of the pieces that were read.
 */
static row_result read_record(row_reader *reader, row_record *record, bool *truncated,
                              row_fault *fault) {
    const row_format *format = reader->format;
    row_scan scan = {0};
    size_t held, seen, found;
    int64_t forgotten_lines = 0;
    for (;;) {
        held = reader->end - reader->start;
        seen = held <= reader->max_bytes ? held : reader->max_bytes + 1;
        const char *text = reader->data + reader->start;
        found = (format->find_end != NULL ? format->find_end : find_newline)(&scan, text, seen);
        if (found < seen || seen > reader->max_bytes || reader->at_end)
            break;
        row_result result = fill(reader, fault);
        if (result != ROW_READ)
            return result;
    }
    if (held == 0)
        return ROW_END;
    *record = (row_record){.text = reader->data + reader->start, .line = reader->line};
    size_t cut = format->find_cut != NULL ? format->find_cut(&scan, record->text, found) : found;
    if (cut < found)
        explain_cut(reader, record, found, found < seen);
    *truncated = cut == seen && seen > reader->max_bytes;
    if (*truncated) {
        cut = seen - 1 < TRUNCATED_BYTES ? seen - 1 : TRUNCATED_BYTES;
        row_result result = forget_rest(reader, cut, seen, &forgotten_lines, fault);
        if (result != ROW_READ)
            return result;
        record->text = reader->data + reader->start;
    }
    size_t size = cut + (cut < reader->end - reader->start);
    record->len = cut;
    reader->line += forgotten_lines + count_lines(record->text, size);
    reader->bytes += (int64_t) size;
    reader->start += size;
    if (*truncated)
        record->len = whole_characters(record->text, cut);
    else if (cut > 0 && record->text[cut - 1] == '\r')
        record->len--;
    return ROW_READ;
}

/* ---- The beginning --------------------------------------------------------------------------- */

/* Does it begin as one of the binary files that are often mistaken for text? */
static bool is_known_binary(const row_reader *reader, row_fault *fault) {
    static const struct {
        const char *bytes;
        size_t len;
        const char *what;
        const char *hint;
    } known[] = {
        {"\x1f\x8b", 2, "gzip", "Decompress it first: gzip -dc FILE | hv import --format F -"},
        {"\x28\xb5\x2f\xfd", 4, "zstd",
         "Decompress it first: zstd -dc FILE | hv import --format F -"},
        {"\xfd\x37zXZ", 5, "xz", "Decompress it first: xz -dc FILE | hv import --format F -"},
        {"BZh", 3, "bzip2", "Decompress it first: bzip2 -dc FILE | hv import --format F -"},
        {"PK\x03\x04", 4, "a zip archive or a spreadsheet",
         "Save the spreadsheet as CSV in UTF-8."},
        {"\xff\xfe", 2, "UTF-16", "Convert it first: iconv -f UTF-16 -t UTF-8 FILE"},
        {"\xfe\xff", 2, "UTF-16", "Convert it first: iconv -f UTF-16 -t UTF-8 FILE"},
    };
    size_t held = reader->end - reader->start;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (held >= known[i].len &&
            memcmp(reader->data + reader->start, known[i].bytes, known[i].len) == 0) {
            row_fault_at(fault, 1, "", 0, "the input is %s, not text", known[i].what);
            row_fault_hint(fault, "%s", known[i].hint);
            return true;
        }
    }
    return false;
}

/* Read the first piece, skip a byte order mark and find the format. */
static row_result look_at_start(row_reader *reader, row_fault *fault) {
    while (reader->end - reader->start < 8 && !reader->at_end) {
        row_result result = fill(reader, fault);
        if (result != ROW_READ)
            return result;
    }
    if (is_known_binary(reader, fault))
        return ROW_FAILED;
    size_t held = reader->end - reader->start;
    if (held >= 3 && memcmp(reader->data + reader->start, "\xef\xbb\xbf", 3) == 0) {
        reader->start += 3;
        reader->bytes += 3;
        held -= 3;
    }
    if (held == 0)
        return ROW_END;
    if (reader->format == NULL && reader->data[reader->start] == '{')
        reader->format = &row_ndjson;
    if (reader->format == NULL) {
        row_fault_line(fault, 0, "the format is not known");
        row_fault_hint(fault, "Name it: --format ndjson, csv or tsv.");
        return ROW_FAILED;
    }
    return ROW_READ;
}

static bool fault_too_long(const row_reader *reader, const row_record *record, const char *what,
                           row_fault *fault) {
    char limit[32];
    return row_fault_line(fault, record->line, "the %s is longer than %s", what,
                          limit_text(limit, reader));
}

/* Read everything before the first row. */
static row_result start(row_reader *reader, row_fault *fault) {
    row_result result = look_at_start(reader, fault);
    if (result != ROW_READ || reader->format->next_field == NULL)
        return result;
    row_record record;
    bool truncated;
    result = read_record(reader, &record, &truncated, fault);
    if (result != ROW_READ)
        return result;
    if (!row_text_check(record.text, record.len, record.line, fault)) {
        row_fault_hint(fault, "This does not look like %s in UTF-8.", reader->format->name);
        return ROW_FAILED;
    }
    if (truncated) {
        fault_too_long(reader, &record, "header", fault);
        row_fault_hint(fault, "This does not look like %s.", reader->format->name);
        return ROW_FAILED;
    }
    if (!row_header_parse(&reader->header, reader->format, &record, &reader->scratch, fault)) {
        if (memchr(record.text, '\r', record.len) != NULL)
            row_fault_hint(fault, "If its lines end with CR alone, convert it first: "
                                  "tr '\\r' '\\n' <FILE >OTHER");
        if (fault->hint[0] == '\0')
            row_fault_hint(fault, "This is the header, which must name the attributes.");
        return ROW_FAILED;
    }
    return ROW_READ;
}

/* ---- Rows of attributes ---------------------------------------------------------------------- */

/* The next record that is a row. */
static row_result next_row(row_reader *reader, row_record *record, bool *truncated,
                           row_fault *fault) {
    row_result result = ROW_READ;
    if (reader->finished)
        return ROW_END;
    if (!reader->started)
        result = start(reader, fault);
    reader->started = true;
    while (result == ROW_READ) {
        result = read_record(reader, record, truncated, fault);
        if (result == ROW_READ &&
            (*truncated || !reader->format->is_empty(record, reader->header.count))) {
            reader->rows++;
            return ROW_READ;
        }
    }
    reader->finished = true;
    return result;
}

static bool parse(row_reader *reader, const row_record *record, bool truncated, hv_dict *dict,
                  row_fault *fault) {
    if (!row_text_check(record->text, record->len, record->line, fault))
        return false;
    if (truncated)
        return fault_too_long(reader, record, "row", fault);
    if (reader->format->parse != NULL)
        return reader->format->parse(record, &reader->scratch, dict, fault);
    return row_table_parse(&reader->header, reader->format, record, &reader->scratch, dict, fault);
}

/* The next row, with a dict or a fault. */
static row_result read_row(row_reader *reader, row **next, row_fault *fault) {
    row_record record;
    bool truncated;
    row_result result = next_row(reader, &record, &truncated, fault);
    if (result != ROW_READ)
        return result;
    row *made = row_new(&record);
    hv_dict *dict = hv_dict_new();
    bool good = made != NULL && dict != NULL;
    if (good) {
        made->number = reader->rows;
        made->truncated = truncated;
        made->bytes = reader->bytes;
        reader->bytes = 0;
        reader->scratch.bare = false;
        if (parse(reader, &record, truncated, dict, fault)) {
            made->dict = dict;
            dict = NULL;
        } else if ((made->fault = malloc(sizeof *made->fault)) != NULL) {
            *made->fault = *fault;
        }
        made->bare = reader->scratch.bare;
        good = made->dict != NULL || made->fault != NULL;
    }
    hv_dict_free(dict);
    if (!good) {
        row_free(made);
        reader->finished = true;
        return input_failed(fault, "out of memory");
    }
    *next = made;
    return ROW_READ;
}

/* ---- Is it the format that it is said to be? ------------------------------------------------- */

/* What the first row of an NDJSON file shows about it, although it is malformed. */
typedef enum first_row {
    BAD_OBJECT, /* an object with something wrong in it */
    OTHER_JSON, /* the beginning of an array, or of an object of several lines */
    ANYTHING,
} first_row;

static first_row look_at_first(const row *first) {
    static const char space[] = " \t\r";
    const char *text = first->text;
    size_t start = 0, end = first->text_len;
    while (start < end && memchr(space, text[start], sizeof space - 1) != NULL)
        start++;
    while (start < end && memchr(space, text[end - 1], sizeof space - 1) != NULL)
        end--;
    if (start == end)
        return ANYTHING;
    if (text[start] == '[' || (text[start] == '{' && end - start == 1))
        return OTHER_JSON;
    return text[start] == '{' && text[end - 1] == '}' ? BAD_OBJECT : ANYTHING;
}

/* All rows so far are malformed: the format is wrong. */
static row_result fail_format(row_reader *reader, row_fault *fault) {
    *fault = *reader->tried[0]->fault;
    if (reader->format == &row_ndjson)
        row_fault_hint(fault,
                       "NDJSON has a whole JSON object on each line; \"jq -c . FILE\" makes it of "
                       "other JSON, \"jq -c '.[]' FILE\" of an array.");
    else
        row_fault_hint(fault, "The first %zu rows are all malformed: this does not look like %s.",
                       reader->tried_count, reader->format->name);
    forget_tried(reader);
    reader->finished = true;
    return ROW_FAILED;
}

/*
 * Read rows until one is good, before any is returned: bad rows at the start may be rejected like
 * any others, or show that the format is a different one, and then none of them is a row.
 */
static row_result try_format(row_reader *reader, row_fault *fault) {
    size_t bytes = 0;
    while (!reader->trusted) {
        row *next = NULL;
        row_result result = read_row(reader, &next, fault);
        if (result == ROW_END && reader->tried_count > 0 && reader->format == &row_ndjson &&
            look_at_first(reader->tried[0]) != BAD_OBJECT)
            return fail_format(reader, fault);
        if (result == ROW_END && reader->tried_count > 0)
            break;
        if (result != ROW_READ) {
            forget_tried(reader);
            return result;
        }
        reader->tried[reader->tried_count++] = next;
        bytes += next->text_len;
        reader->trusted = next->fault == NULL || bytes > reader->max_bytes;
        bool other = reader->format == &row_ndjson && next->fault != NULL &&
                     look_at_first(reader->tried[0]) == OTHER_JSON;
        if (other || (!reader->trusted && reader->tried_count == ROW_TRIAL))
            return fail_format(reader, fault);
    }
    reader->trusted = true;
    return ROW_READ;
}

row_result row_reader_next(row_reader *reader, row **next, row_fault *fault) {
    if (!reader->trusted) {
        row_result result = try_format(reader, fault);
        if (result != ROW_READ)
            return result;
    }
    if (reader->tried_given == reader->tried_count)
        return read_row(reader, next, fault);
    *next = reader->tried[reader->tried_given++];
    return ROW_READ;
}

row_result row_reader_skip(row_reader *reader, int64_t count, int64_t *skipped, row_fault *fault) {
    row_record record;
    bool truncated;
    row_result result = ROW_READ;
    *skipped = 0;
    while (*skipped < count && reader->tried_given < reader->tried_count) {
        row_free(reader->tried[reader->tried_given++]);
        ++*skipped;
    }
    while (*skipped < count && result == ROW_READ) {
        result = next_row(reader, &record, &truncated, fault);
        if (result == ROW_READ)
            ++*skipped;
    }
    return result;
}
