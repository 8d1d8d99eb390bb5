/*
 * ui: the terminal, colours, text of any origin, and numbers.
 *
 * Holds always: `settings` changes only while the arguments are read, before any thread starts.
 */
#include "ui/ui.h"

#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "base/utf8.h"

static struct {
    bool colour_out; /* on stdout */
    bool colour_err; /* on stderr */
    bool unicode;
    bool json;
} settings;

/* Can the terminal do more than print? */
static bool is_capable(void) {
    const char *term = getenv("TERM");
    return term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0;
}

void ui_init(void) {
    setlocale(LC_CTYPE, "");
    settings.unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    const char *no_color = getenv("NO_COLOR");
    bool wanted = (no_color == NULL || no_color[0] == '\0') && is_capable();
    settings.colour_out = wanted && ui_is_terminal(stdout);
    settings.colour_err = wanted && ui_is_terminal(stderr);
}

void ui_no_color(void) {
    settings.colour_out = settings.colour_err = false;
}

void ui_json(void) {
    settings.json = true;
}

bool ui_is_json(void) {
    return settings.json;
}

bool ui_is_terminal(FILE *stream) {
    return isatty(fileno(stream)) == 1;
}

bool ui_unicode(void) {
    return settings.unicode;
}

int ui_width(FILE *stream) {
    struct winsize size;
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

bool ui_can_draw(void) {
    return !settings.json && is_capable() && ui_is_terminal(stderr);
}

static bool has_colour(const FILE *stream) {
    return stream == stderr ? settings.colour_err : settings.colour_out;
}

const char *ui_on(FILE *stream, ui_style style) {
    if (!has_colour(stream))
        return "";
    switch (style) {
    case UI_PLAIN:
        return "";
    case UI_BOLD:
        return "\033[1m";
    case UI_DIM:
        return "\033[2m";
    case UI_GOOD:
        return "\033[32m";
    case UI_WARN:
        return "\033[33m";
    case UI_BAD:
        return "\033[31m";
    case UI_NAME:
        return "\033[36m";
    }
    return "";
}

const char *ui_off(FILE *stream) {
    return has_colour(stream) ? "\033[0m" : "";
}

int ui_text(FILE *stream, const char *text, size_t len) {
    const unsigned char *at = (const unsigned char *) text;
    const unsigned char *end = at + len;
    int columns = 0;
    while (at < end) {
        uint32_t code = 0;
        size_t size = hvi_utf8_decode((const char *) at, (size_t) (end - at), &code);
        if (size == 0)
            columns += fprintf(stream, "\\x%02x", *at++);
        else if (code == '\n' || code == '\t' || code == '\r')
            columns += fprintf(stream, "\\%c", code == '\n' ? 'n' : code == '\t' ? 't' : 'r');
        else if (hvi_acts_on_terminal(code))
            columns += fprintf(stream, code < 0x80 ? "\\x%02" PRIx32 : "\\u%04" PRIx32, code);
        else {
            fwrite(at, 1, size, stream);
            int width = settings.unicode ? wcwidth((wchar_t) code) : 1;
            columns += width > 0 ? width : 0;
        }
        at += size;
    }
    return columns;
}

void ui_lines(FILE *stream, const char *text, size_t len) {
    for (size_t at = 0; at < len; at++) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t line = end != NULL ? (size_t) (end - text) - at : len - at;
        ui_text(stream, text + at, line);
        if (end != NULL)
            fputc('\n', stream);
        at += line;
    }
}

int ui_bar(FILE *stream, double share, int width) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int steps = share > 0 ? (int) (share * width * 8) : 0;
    int used = 0;
    for (; used < steps / 8; used++)
        fputs(settings.unicode ? "█" : "#", stream);
    if (settings.unicode && steps % 8 != 0 && used < width) {
        fputs(eighths[steps % 8], stream);
        used++;
    }
    return used;
}

const char *ui_number(char text[UI_NUMBER_SIZE], int64_t value) {
    char digits[UI_NUMBER_SIZE];
    int len = snprintf(digits, sizeof digits, "%" PRId64, value);
    char *to = text;
    for (int i = 0; i < len; i++) {
        bool starts_group = (len - i) % 3 == 0 && i > 0 && digits[i - 1] != '-';
        if (starts_group)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return text;
}

const char *ui_bytes(char text[UI_NUMBER_SIZE], int64_t bytes) {
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double) bytes;
    size_t unit = 0;
    while (value >= 1000 && unit < sizeof units / sizeof units[0] - 1) {
        value /= 1024;
        unit++;
    }
    snprintf(text, UI_NUMBER_SIZE, unit > 0 && value < 9.95 ? "%.1f %s" : "%.0f %s", value,
             units[unit]);
    return text;
}

const char *ui_duration(char text[UI_NUMBER_SIZE], int64_t us) {
    int64_t s = (us + 500000) / 1000000;
    if (us < 1000)
        snprintf(text, UI_NUMBER_SIZE, "%" PRId64 " us", us);
    else if (us < 999500)
        snprintf(text, UI_NUMBER_SIZE, "%" PRId64 " ms", (us + 500) / 1000);
    else if (us < 9950000)
        snprintf(text, UI_NUMBER_SIZE, "%.1f s", (double) us / 1e6);
    else if (s < 60)
        snprintf(text, UI_NUMBER_SIZE, "%" PRId64 " s", s);
    else if (s < 3600)
        snprintf(text, UI_NUMBER_SIZE, "%" PRId64 " min %02" PRId64 " s", s / 60, s % 60);
    else
        snprintf(text, UI_NUMBER_SIZE, "%" PRId64 " h %02" PRId64 " min", s / 3600, s / 60 % 60);
    return text;
}

const char *ui_time(char text[UI_NUMBER_SIZE], int64_t unix_ms) {
    int64_t ms = unix_ms % 1000;
    if (ms < 0)
        ms += 1000;
    time_t seconds = (time_t) ((unix_ms - ms) / 1000);
    struct tm tm;
    char date[UI_NUMBER_SIZE - 8];
    if (gmtime_r(&seconds, &tm) == NULL || strftime(date, sizeof date, "%FT%T", &tm) == 0)
        snprintf(text, UI_NUMBER_SIZE, "@%" PRId64, unix_ms);
    else
        snprintf(text, UI_NUMBER_SIZE, "%s.%03dZ", date, (int) ms);
    return text;
}
