/*
 * hstore_tool: the library's internal conversions of hstore as a filter, to compare them with the
 * server's.
 *
 * Each line of the input is a command and bytes in hexadecimal; each gets one line of output:
 *
 *     binary HEX    decode the binary form     "ok TEXT BINARY", both in hexadecimal
 *     text HEX      parse the text form        the same; or "refused MESSAGE"
 *     utf8 HEX      length of the valid prefix "ok LENGTH"
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "value/hstore.h"
#include "base/utf8.h"

_Noreturn static void die(const char *message) {
    fprintf(stderr, "hstore_tool: %s\n", message);
    exit(2);
}

static unsigned read_digit(char digit) {
    if (digit >= '0' && digit <= '9')
        return (unsigned) (digit - '0');
    if (digit >= 'a' && digit <= 'f')
        return (unsigned) (digit - 'a' + 10);
    die("not hexadecimal");
}

/* Hexadecimal to bytes, in memory of exactly their size; free() them. */
static char *read_hex(const char *hex, size_t *len) {
    size_t digits = strlen(hex);
    *len = digits / 2;
    char *bytes = malloc(*len > 0 ? *len : 1);
    if (bytes == NULL)
        die("out of memory");
    for (size_t i = 0; i < *len; i++)
        bytes[i] = (char) (read_digit(hex[2 * i]) << 4 | read_digit(hex[2 * i + 1]));
    return bytes;
}

static void print_hex(const char *bytes, size_t len) {
    putchar(' ');
    for (size_t i = 0; i < len; i++)
        printf("%02x", (unsigned char) bytes[i]);
}

static void print_dict(const hv_dict *dict) {
    char *text;
    hvi_buffer binary = HVI_BUFFER_EMPTY;
    if (hv_dict_text(dict, &text, NULL) != HV_OK)
        die("out of memory");
    hvi_hstore_encode(dict, &binary);
    if (!hvi_buffer_ok(&binary))
        die("out of memory");
    printf("ok");
    print_hex(text, strlen(text));
    print_hex(binary.data, binary.len);
    putchar('\n');
    hvi_buffer_fini(&binary);
    free(text);
}

static void run(const char *command, const char *bytes, size_t len) {
    if (strcmp(command, "utf8") == 0) {
        printf("ok %zu\n", hvi_utf8_prefix(bytes, len));
        return;
    }
    hv_dict *dict = NULL;
    hv_error *error = NULL;
    hv_status status;
    if (strcmp(command, "binary") == 0)
        status = hvi_hstore_decode(bytes, len, &dict, &error);
    else if (strcmp(command, "text") == 0)
        status = hv_dict_parse(bytes, len, &dict, &error);
    else
        die("unknown command");
    if (status == HV_OK)
        print_dict(dict);
    else
        printf("refused %s: %s\n", hv_error_message(error), hv_error_detail(error));
    hv_dict_free(dict);
    hv_error_free(error);
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    while ((len = getline(&line, &room, stdin)) > 0) {
        if (line[len - 1] == '\n')
            line[len - 1] = '\0';
        char *hex = strchr(line, ' ');
        if (hex == NULL)
            die("a line without bytes");
        *hex++ = '\0';
        size_t bytes_len;
        char *bytes = read_hex(hex, &bytes_len);
        run(line, bytes, bytes_len);
        free(bytes);
        fflush(stdout);
    }
    free(line);
    return 0;
}
