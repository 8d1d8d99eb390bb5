/*
 * suggest: the known word that is nearest to a mistyped one.
 *
 * The distance is the number of letters inserted, left out, replaced or swapped with their
 * neighbour ("optimal string alignment"); upper and lower case are the same.
 */
#include "base/suggest.h"

#include <stdbool.h>
#include <string.h>

/* No option's name is longer: nothing is suggested for a longer word, and none is suggested. */
#define MAX_WORD 63

static size_t min(size_t a, size_t b) {
    return a < b ? a : b;
}

static bool same_letter(char a, char b) {
    if (a >= 'A' && a <= 'Z')
        a = (char) (a - 'A' + 'a');
    if (b >= 'A' && b <= 'Z')
        b = (char) (b - 'A' + 'a');
    return a == b;
}

static size_t word_distance(const char *a, size_t a_len, const char *b, size_t b_len) {
    /* Row i, column j: the distance between the first i letters of a and the first j of b. Only
     * three rows are ever needed. */
    size_t rows[3][MAX_WORD + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *free_row = before;
        before = above;
        above = row;
        row = free_row;
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t replaced = above[j - 1] + (same_letter(a[i - 1], b[j - 1]) ? 0 : 1);
            row[j] = min(replaced, min(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                same_letter(a[i - 2], b[j - 1]))
                row[j] = min(row[j], before[j - 2] + 1);
        }
    }
    return row[b_len];
}

void hvi_suggestion_init(hvi_suggestion *suggestion, const char *word) {
    *suggestion = (hvi_suggestion){.word = word, .best = NULL, .distance = 0};
}

void hvi_suggestion_offer(hvi_suggestion *suggestion, const char *candidate) {
    size_t word_len = strnlen(suggestion->word, MAX_WORD + 1);
    size_t candidate_len = strnlen(candidate, MAX_WORD + 1);
    if (word_len > MAX_WORD || candidate_len > MAX_WORD)
        return;
    size_t longer = word_len > candidate_len ? word_len : candidate_len;
    size_t limit = longer / 3 > 1 ? longer / 3 : 1;
    size_t distance = word_distance(suggestion->word, word_len, candidate, candidate_len);
    /* Words without a letter in common are not near, however short. */
    if (distance > limit || distance >= longer)
        return;
    if (suggestion->best == NULL || distance < suggestion->distance) {
        suggestion->best = candidate;
        suggestion->distance = distance;
    }
}
