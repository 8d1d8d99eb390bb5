/*
 * differences: what has to be taken from one text, and added, to make another one of it.
 */
#ifndef HVI_DIFFERENCES_H
#define HVI_DIFFERENCES_H

#include "base/buffer.h"

/*
 * Compare two texts by lines, each of which ends with a newline. Append in their order the lines of
 * the first that the second lacks, after "-", and those of the second, after "+"; as few as can be,
 * unless the texts are very long and share little.
 */
void hvi_differences(hvi_buffer *to, const char *first, const char *second);

#endif
