/*
 * config_file: find and read the INI file (hv_options_load() is the public function here).
 *
 * inih does the reading: `name = value` lines, [sections], comments from `;` or `#` at a line's
 * start or from ` ;` in a line. In addition, values may be in quotes, lines that inih would cut are
 * an error, and so is an option that is given twice.
 */
#ifndef HVI_CONFIG_FILE_H
#define HVI_CONFIG_FILE_H

#include "config/options.h"

/* Read one file; `named`: the user has named it. Errors: HV_BAD_CONFIG, with file and line, or with
 * the reason why the file is not trusted; HV_NO_MEMORY. */
hv_status hvi_config_file_read(hv_options *options, const char *path, bool named, hv_error **error);

#endif
