/*
 * config_file: find and read the INI file (hv_options_load() is the public function here).
 *
 * inih does the reading: `name = value` lines, [sections], comments from `;` or `#` at a line's
 * start or from ` ;` in a line. What is added: lines that inih would cut are an error, and so is an
 * option given twice.
 */
#ifndef HVI_CONFIG_FILE_H
#define HVI_CONFIG_FILE_H

#include "config/options.h"

/* Read one file, which the user has named or not. Errors: HV_BAD_CONFIG, "FILE:LINE: what", or why
 * the file cannot be trusted. */
hv_status hvi_config_file_read(hv_options *options, const char *path, bool named, hv_error **error);

/* The first file that exists in the order that hv_options_load() promises, in *path: free() it.
 * *by_name: $HYPERVAULT_CONFIG names it. Errors: HV_BAD_CONFIG if there is none. */
hv_status hvi_config_file_find(char **path, bool *by_name, hv_error **error);

#endif
