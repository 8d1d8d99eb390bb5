/*
 * config_file: find and read the INI file.
 *
 * Holds always: the first error wins, and it names the file and the line. inih silently cuts long
 * lines, sections and names, so each line is checked before inih gets it. It does not know quotes
 * either: a value in quotes is read here, and inih gets the line without it.
 */
#include "config/config_file.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/suggest.h"
#include "config/trust.h"

/* The longest [section] and the longest name that inih keeps whole (MAX_SECTION and MAX_NAME in its
 * ini.c are 50, with the NUL). */
#define INIH_MAX_WORD 49

/* The rest of a longer line is not kept: no server takes so long a value. */
#define MAX_LINE 70000

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

#define HYPERVAULT_SECTION "hypervault"
#define SERVER_SECTION     "server"

typedef struct hvi_reading {
    hv_options *options;
    const char *path;
    FILE *file;
    int line;           /* the number of the line that inih has now */
    bool unsettled;     /* … which must be a setting, but inih has not reported it yet */
    bool has_setting;   /* in this section: an indented line continues it */
    hvi_buffer text;    /* the line as the file has it, without its end */
    hvi_buffer value;   /* the line's value, if it is in quotes … */
    bool is_quoted;     /* … which it is */
    hvi_buffer servers; /* "\nname\tline\n" of the servers' sections */
    hvi_buffer given;   /* "\nsection\tname\n" of all settings, to find duplicates */
    bool secret;        /* a password was given */
    hv_status status;   /* of the first error */
    hv_error *error;
} hvi_reading;

/* Keep the first error, with file and line put before its message. */
static void fail_at_line(hvi_reading *reading, hv_status status, hv_error **cause) {
    if (reading->status == HV_OK) {
        hv_error *e = *cause;
        hvi_fail(&reading->error, status, "%s:%d: %s", reading->path, reading->line,
                 hv_error_message(e));
        if (hv_error_detail(e) != NULL)
            hvi_error_detail(&reading->error, "%s", hv_error_detail(e));
        if (hv_error_hint(e) != NULL)
            hvi_error_hint(&reading->error, "%s", hv_error_hint(e));
        hvi_error_where(&reading->error, hv_error_server(e), hv_error_shard(e));
        reading->status = status;
    }
    hv_error_free(*cause);
    *cause = NULL;
}

/* The length of the name of a section or a setting, without trailing white space. */
static size_t word_len(const char *start) {
    size_t len = strcspn(start, *start == '[' ? "]" : "=:");
    while (len > 0 && isspace((unsigned char) start[len - 1]))
        len--;
    return len;
}

static bool is_secret_setting(const char *start) {
    char name[INIH_MAX_WORD + 1];
    size_t len = word_len(start);
    if (len > INIH_MAX_WORD)
        return false;
    snprintf(name, sizeof name, "%.*s", (int) len, start);
    return hvi_is_secret(name);
}

/* Refuse what inih would silently get wrong. `start` is the line without leading white space. */
static hv_status check_line(const char *start, hv_error **error) {
    if (word_len(start) > INIH_MAX_WORD)
        return hvi_fail(error, HV_BAD_CONFIG, "a name is longer than %d characters", INIH_MAX_WORD);
    if (is_secret_setting(start) && (strstr(start, " ;") != NULL || strstr(start, "\t;") != NULL)) {
        hvi_fail(error, HV_BAD_CONFIG, "a password with \" ;\" must be in quotes");
        hvi_error_detail(error, "A semicolon after white space starts a comment.");
        hvi_error_hint(error, "Put the password into double quotes, or into a .pgpass file.");
        return HV_BAD_CONFIG;
    }
    return HV_OK;
}

static hv_status fail_too_long(const char *start, hv_error **error) {
    size_t len = word_len(start);
    hvi_fail(error, HV_BAD_CONFIG, "the line is too long");
    if (len == strlen("shards") && strncmp(start, "shards", len) == 0)
        hvi_error_hint(error, "A long list of shards can be given in several \"shards\" lines.");
    else
        hvi_error_hint(error, "Put a long value into double quotes.");
    return HV_BAD_CONFIG;
}

/*
 * Read the value of a line `name = "value"`, if it is in quotes, into reading->value. Inside the
 * quotes every character stands for itself, except in \" and \\. Errors do not show the value: it
 * may be a password.
 */
static hv_status take_quoted(hvi_reading *reading, const char *start, hv_error **error) {
    const char *at = start + strcspn(start, "=:");
    at += *at != '\0';
    while (isspace((unsigned char) *at))
        at++;
    if (*start == '[' || *at != '"')
        return HV_OK;
    hvi_buffer_reset(&reading->value);
    for (at++; *at != '"'; at++) {
        bool is_escape = *at == '\\';
        if (is_escape)
            at++;
        if (*at == '\0')
            return hvi_fail(error, HV_BAD_CONFIG, "a closing quote is missing");
        if (is_escape && *at != '"' && *at != '\\') {
            hvi_fail(error, HV_BAD_CONFIG, "invalid backslash escape in quotes");
            hvi_error_hint(error, "In quotes write \\\\ for a backslash and \\\" for a quote.");
            return HV_BAD_CONFIG;
        }
        hvi_buffer_append_byte(&reading->value, *at);
    }
    bool has_space = isspace((unsigned char) *++at);
    while (isspace((unsigned char) *at))
        at++;
    if (*at != '\0' && !(has_space && *at == ';')) {
        hvi_fail(error, HV_BAD_CONFIG, "unexpected text after the closing quote");
        hvi_error_hint(error, "In quotes write \\\\ for a backslash and \\\" for a quote.");
        return HV_BAD_CONFIG;
    }
    hvi_buffer_append(&reading->value, "", 0); /* so that it has data */
    reading->is_quoted = true;
    return HV_OK;
}

/* Read a line, without its end, into reading->text. False at the end of the file. */
static bool get_line(hvi_reading *reading, bool *nul, bool *cut) {
    int c;
    bool any = false; /* no counter, which a line of 2 GB would overflow */
    *nul = *cut = false;
    hvi_buffer_reset(&reading->text);
    while ((c = getc(reading->file)) != EOF && c != '\n') {
        any = true;
        *nul = *nul || c == '\0';
        *cut = reading->text.len == MAX_LINE;
        if (!*cut)
            hvi_buffer_append_byte(&reading->text, (char) c);
    }
    hvi_buffer_append(&reading->text, "", 0);
    return c != EOF || any;
}

static hv_status fail_unsettled(hv_error **error) {
    hvi_fail(error, HV_BAD_CONFIG, "neither a [section] nor a \"name = value\" line");
    hvi_error_hint(error, "Comments start with # or ;.");
    return HV_BAD_CONFIG;
}

/* The server's name in a section's title, without surrounding white space; false if the section is
 * not a server's. */
static bool server_of_section(const char *section, char name[INIH_MAX_WORD + 1]) {
    size_t word = strlen(SERVER_SECTION);
    if (strncmp(section, SERVER_SECTION, word) != 0 || !isspace((unsigned char) section[word]))
        return false;
    const char *start = section + word;
    while (isspace((unsigned char) *start))
        start++;
    size_t len = strlen(start);
    while (len > 0 && isspace((unsigned char) start[len - 1]))
        len--;
    snprintf(name, INIH_MAX_WORD + 1, "%.*s", (int) len, start);
    return len > 0;
}

/* The line of an earlier section of this server; 0: there is none. */
static int line_of_server(const hvi_reading *reading, const char *name) {
    hvi_buffer entry = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&entry, "\n%s\t", name);
    const char *found = reading->servers.data == NULL || entry.data == NULL
                            ? NULL
                            : strstr(reading->servers.data, entry.data);
    int line = found == NULL ? 0 : atoi(found + entry.len);
    hvi_buffer_fini(&entry);
    return line;
}

/* A section begins. Each server may have one. */
static void begin_section(hvi_reading *reading, const char *start, hv_error **error) {
    char section[INIH_MAX_WORD + 1], name[INIH_MAX_WORD + 1];
    reading->has_setting = false;
    snprintf(section, sizeof section, "%.*s", (int) strcspn(start + 1, "]"), start + 1);
    if (!server_of_section(section, name))
        return;
    int before = line_of_server(reading, name);
    hvi_buffer_append_format(&reading->servers, "\n%s\t%d\n", name, reading->line);
    if (before > 0 && hv_options_add_server(reading->options, name, error) != HV_OK)
        hvi_error_detail(error, "The first [" SERVER_SECTION " %s] is in line %d.", name, before);
    else if (before == 0 && hvi_options_server(reading->options, name) < 0)
        hv_options_add_server(reading->options, name, error);
}

/* Check a line, and copy the part that inih is to see into `line`. */
static hv_status pass_on(hvi_reading *reading, bool nul, bool cut, char *line, int size,
                         hv_error **error) {
    const char *text = reading->text.data;
    if (nul)
        return hvi_fail(error, HV_BAD_CONFIG, "a NUL byte in the line");
    if (reading->line == 1 && strncmp(text, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0)
        text += strlen(BYTE_ORDER_MARK);
    bool is_at_margin = !isspace((unsigned char) *text);
    const char *start = text;
    while (isspace((unsigned char) *start))
        start++;
    *line = '\0';
    if (*start == '\0' || *start == '#' || *start == ';')
        return HV_OK;
    bool continues = !is_at_margin && reading->has_setting;
    bool is_section = *start == '[' && strchr(start, ']') != NULL;
    hv_status status = continues ? HV_OK : take_quoted(reading, start, error);
    if (status == HV_OK && reading->is_quoted) {
        status = word_len(start) > INIH_MAX_WORD ? check_line(start, error) : HV_OK;
        snprintf(line, (size_t) size, "%.*s =\n", (int) word_len(start), start);
    } else if (status == HV_OK) {
        status = check_line(start, error);
        if (status == HV_OK && (cut || snprintf(line, (size_t) size, "%s\n", text) >= size))
            status = fail_too_long(start, error);
    }
    if (status == HV_OK && is_section && !continues)
        begin_section(reading, start, error);
    reading->unsettled = !is_section;
    return status;
}

/* inih's fgets(). Before inih asks for the next line, it has passed this one to handle_setting() or
 * found it wrong. */
static char *read_line(char *line, int size, void *context) {
    hvi_reading *reading = context;
    hv_error *error = NULL;
    bool nul, cut;
    if (reading->unsettled) {
        fail_unsettled(&error);
        fail_at_line(reading, HV_BAD_CONFIG, &error);
    }
    reading->unsettled = reading->is_quoted = false;
    if (reading->status != HV_OK || !get_line(reading, &nul, &cut))
        return NULL;
    reading->line++;
    if (!hvi_buffer_ok(&reading->text))
        hvi_no_memory(&error);
    else
        pass_on(reading, nul, cut, line, size, &error);
    if (error == NULL)
        return line;
    fail_at_line(reading, hv_error_status(error), &error);
    return NULL;
}

/* Remember that this name is set in this section. True if it was before. */
static bool given_twice(hvi_reading *reading, const char *section, const char *name) {
    hvi_buffer entry = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&entry, "\n%s\t%s\n", section, name);
    bool twice = reading->given.data != NULL && entry.data != NULL &&
                 strstr(reading->given.data, entry.data) != NULL;
    if (entry.data != NULL)
        hvi_buffer_append_text(&reading->given, entry.data);
    else
        hvi_buffer_break(&reading->given);
    hvi_buffer_fini(&entry);
    return twice;
}

static hv_status unknown_section(const char *section, hv_error **error) {
    hvi_suggestion nearest;
    hvi_suggestion_init(&nearest, section);
    hvi_suggestion_offer(&nearest, HYPERVAULT_SECTION);
    if (section[0] == '\0')
        hvi_fail(error, HV_BAD_CONFIG, "a setting before the first section");
    else if (hvi_holds_settings(section))
        hvi_fail(error, HV_BAD_CONFIG, "unknown section");
    else
        hvi_fail(error, HV_BAD_CONFIG, "unknown section [%s]", section);
    if (nearest.best != NULL)
        hvi_error_hint(error, "Did you mean [%s]?", nearest.best);
    else
        hvi_error_hint(error, "The sections are [" HYPERVAULT_SECTION "] for options and "
                              "[" SERVER_SECTION " NAME] for each server.");
    return HV_BAD_CONFIG;
}

static hv_status fail_twice(const char *section, const char *name, hv_error **error) {
    hvi_fail(error, HV_BAD_CONFIG, "\"%s\" is given twice in [%s]", name, section);
    hvi_error_detail(error, "An indented line continues the setting before it.");
    return HV_BAD_CONFIG;
}

/* Could this be the name of a setting? Anything else may be a password on the wrong line, and is
 * not shown. */
static bool is_name(const char *name) {
    return *name != '\0' &&
           name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")] == '\0';
}

/* A directory is relative to the folder of the file. */
static hv_status take_directory(const hvi_reading *reading, const char *name, const char *value,
                                hv_error **error) {
    const char *slash = strrchr(reading->path, '/');
    hvi_buffer path = HVI_BUFFER_EMPTY;
    if (slash != NULL)
        hvi_buffer_append(&path, reading->path, (size_t) (slash + 1 - reading->path));
    hvi_buffer_append_text(&path, value);
    hv_status status = hvi_buffer_ok(&path)
                           ? hv_options_set(reading->options, name, path.data, error)
                           : hvi_no_memory(error);
    hvi_buffer_fini(&path);
    return status;
}

static hv_status take_option(const hvi_reading *reading, const char *name, const char *value,
                             hv_error **error) {
    hvi_option_id id;
    bool is_directory =
        hvi_option_find(name, &id, NULL) == HV_OK && hvi_option_table[id].type == HVI_DIRECTORY;
    if (is_directory && *value != '\0' && *value != '/')
        return take_directory(reading, name, value, error);
    return hv_options_set(reading->options, name, value, error);
}

static hv_status take_setting(hvi_reading *reading, const char *section, const char *name,
                              const char *value, hv_error **error) {
    char server[INIH_MAX_WORD + 1];
    if (!is_name(name)) {
        hvi_fail(error, HV_BAD_CONFIG, "the text before \"=\" or \":\" is not a name");
        hvi_error_hint(error, "Write \"name = value\", each on a line of its own.");
        return HV_BAD_CONFIG;
    }
    if (!server_of_section(section, server)) {
        if (strcmp(section, HYPERVAULT_SECTION) != 0)
            return unknown_section(section, error);
        if (given_twice(reading, section, name))
            return fail_twice(section, name, error);
        return take_option(reading, name, value, error);
    }
    char title[sizeof SERVER_SECTION + sizeof server];
    snprintf(title, sizeof title, SERVER_SECTION " %s", server);
    const char *keyword = strcmp(name, "database") == 0 ? "dbname" : name;
    reading->secret = reading->secret || (value[0] != '\0' && hvi_is_secret(keyword));
    if (strcmp(name, "shards") != 0 && given_twice(reading, title, keyword))
        return fail_twice(title, name, error);
    return hv_options_set_server(reading->options, server, name, value, error);
}

/* inih's handler. It returns 0 for an error, after which inih reads on: read_line() stops it. */
static int handle_setting(void *context, const char *section, const char *name, const char *value) {
    hvi_reading *reading = context;
    reading->unsettled = false;
    reading->has_setting = true;
    if (reading->status != HV_OK)
        return 0;
    hv_error *error = NULL;
    hv_status status = HV_OK;
    if (reading->is_quoted && !hvi_buffer_ok(&reading->value))
        status = hvi_no_memory(&error);
    else
        status = take_setting(reading, section, name,
                              reading->is_quoted ? reading->value.data : value, &error);
    if (status != HV_OK)
        fail_at_line(reading, status, &error);
    return status == HV_OK;
}

hv_status hvi_config_file_read(hv_options *options, const char *path, bool named,
                               hv_error **error) {
    hvi_reading reading = {.options = options, .path = path};
    reading.file = fopen(path, "re");
    if (reading.file == NULL && errno == ENOMEM)
        return hvi_no_memory(error);
    if (reading.file == NULL)
        return hvi_fail(error, HV_BAD_CONFIG, "could not open configuration file \"%s\": %s", path,
                        strerror(errno));
    errno = 0;
    int line = ini_parse_stream(read_line, &reading, handle_setting, &reading);
    if (reading.status == HV_OK && ferror(reading.file))
        reading.status =
            hvi_fail(&reading.error, HV_BAD_CONFIG, "could not read configuration file \"%s\": %s",
                     path, strerror(errno));
    else if (reading.status == HV_OK && line != 0)
        reading.status = hvi_no_memory(&reading.error);
    if (reading.status == HV_OK &&
        (!hvi_buffer_ok(&reading.given) || !hvi_buffer_ok(&reading.servers)))
        reading.status = hvi_no_memory(&reading.error);
    if (reading.status == HV_OK)
        reading.status =
            hvi_trust_check(fileno(reading.file), path, named, reading.secret, &reading.error);
    hvi_buffer_fini(&reading.text);
    hvi_buffer_fini(&reading.value);
    hvi_buffer_fini(&reading.given);
    hvi_buffer_fini(&reading.servers);
    fclose(reading.file);
    return reading.status == HV_OK ? HV_OK : hvi_error_move(error, &reading.error);
}

/* The places after $HYPERVAULT_CONFIG, in order. */
static bool candidate(int index, hvi_buffer *path) {
    const char *xdg = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    switch (index) {
    case 0:
        hvi_buffer_append_text(path, "./hypervault.conf");
        return true;
    case 1:
        if (xdg != NULL && xdg[0] == '/')
            hvi_buffer_append_format(path, "%s/hypervault/hypervault.conf", xdg);
        else if (home != NULL)
            hvi_buffer_append_format(path, "%s/.config/hypervault/hypervault.conf", home);
        return true;
    case 2:
        hvi_buffer_append_text(path, "/etc/hypervault/hypervault.conf");
        return true;
    default:
        return false;
    }
}

/* Set *path to the first file that exists in the order that hv_options_load() promises; free() it.
 * *by_name: $HYPERVAULT_CONFIG names it. Errors: HV_BAD_CONFIG if there is none; HV_NO_MEMORY. */
static hv_status find_file(char **path, bool *by_name, hv_error **error) {
    hvi_buffer buffer = HVI_BUFFER_EMPTY;
    hvi_buffer looked = HVI_BUFFER_EMPTY;
    bool found = false;
    const char *named = getenv("HYPERVAULT_CONFIG");
    if (named != NULL && named[0] != '\0') {
        /* If it is missing, reading it is an error: no other file is used instead. */
        hvi_buffer_append_text(&buffer, named);
        found = true;
    }
    *by_name = found;
    for (int i = 0; !found; i++) {
        hvi_buffer_reset(&buffer);
        if (!candidate(i, &buffer) || !hvi_buffer_ok(&buffer))
            break;
        if (buffer.len > 0 && access(buffer.data, F_OK) == 0)
            found = true;
        else if (buffer.len > 0)
            hvi_buffer_append_format(&looked, "%s%s", looked.len > 0 ? ", " : "", buffer.data);
    }
    hv_status status = HV_OK;
    if (!hvi_buffer_ok(&buffer) || !hvi_buffer_ok(&looked)) {
        status = hvi_no_memory(error);
    } else if (!found) {
        status = hvi_fail(error, HV_BAD_CONFIG, "no configuration file found");
        hvi_error_detail(error, "Looked for %s.", looked.data);
        hvi_error_hint(error, "Name one in $HYPERVAULT_CONFIG; `hv dev up` makes private servers "
                              "and a configuration for them.");
    } else if ((*path = hvi_buffer_take(&buffer)) == NULL) {
        status = hvi_no_memory(error);
    }
    hvi_buffer_fini(&buffer);
    hvi_buffer_fini(&looked);
    return status;
}

hv_status hv_options_load(hv_options *options, const char *path, char **found, hv_error **error) {
    char *used = NULL;
    if (found != NULL)
        *found = NULL;
    hv_status status = HV_OK;
    bool named = true;
    if (path == NULL)
        status = find_file(&used, &named, error);
    else if ((used = strdup(path)) == NULL)
        status = hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_config_file_read(options, used, named, error);
    if (found != NULL) {
        *found = used;
        used = NULL;
    }
    free(used);
    return status;
}
