"""Each structural check finds what it is there to find: it is fed a small tree with one fault."""

import pathlib
import re
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import check_collection
import check_commands
import check_format
import check_headers
import check_options
import check_packaging
import check_scripts
import check_sql
import check_rooms
import check_symbols
import check_text
import check_types
import checking

DESIGN = """\
| folder | one line |
|---|---|
| `src/base` | errors, time |
| `src/pool` | connections |
| `src/move` | moves shards (planned) |

The command:

| folder | one line |
|---|---|
| `cli/ui` | what people see |
| `cli/rows` | rows |
| `cli` | commands |
"""

FILES = {
    "docs/design.md": DESIGN,
    "include/hypervault.h": "/*\n * The interface.\n */\nint hv_version(void);\n",
    "src/base/error.h": '/*\n * error\n */\n#include "hypervault.h"\n',
    "src/base/clock.h": "/*\n * clock\n */\n#include <time.h>\n",
    "src/pool/pool.h": '/*\n * pool\n */\n#include "base/error.h"\n',
    "src/pool/pool.c": '/*\n * pool\n */\n#include "pool/pool.h"\n\n#include "base/clock.h"\n',
    "cli/hv.c": '/*\n * hv\n */\n#include "command.h"\n\n#include "base/error.h"\n#include "ui/ui.h"\n',
    "cli/command.h": '/*\n * command\n */\n#include "rows/reader.h"\n',
    "cli/rows/reader.h": '/*\n * reader\n */\n#include "ui/ui.h"\n',
    "cli/ui/ui.h": "/*\n * ui\n */\n#include <hypervault.h>\n",
    "dev/build": "#!/bin/bash\nset -euo pipefail\n\necho build\n",
}


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path):
    """A small source tree in which everything is in order."""
    for name, text in FILES.items():
        write(tmp_path, name, text).chmod(0o755)
    shutil.copy(checking.ROOT / ".clang-format", tmp_path)
    return tmp_path


# ---- rooms ----


def test_a_tree_in_order_has_no_problems(root):
    assert check_rooms.problems(root) == []
    assert check_text.problems(root) == []
    assert check_headers.problems(root, []) == []


def test_an_include_that_points_up_is_found(root):
    write(root, "src/base/error.c", '/*\n * error\n */\n#include "pool/pool.h"\n')
    assert check_rooms.problems(root) == [
        'src/base/error.c:4: "pool/pool.h" is in src/pool, which is not below src/base'
    ]


def test_an_include_within_the_folder_is_allowed(root):
    write(root, "src/base/error.c", '/*\n * error\n */\n#include "base/clock.h"\n')
    assert check_rooms.problems(root) == []


def test_modules_that_include_each_other_are_found(root):
    write(root, "src/base/clock.c", '/*\n * clock\n */\n#include "base/list.h"\n')
    write(root, "src/base/list.h", '/*\n * list\n */\n#include "base/error.h"\n')
    assert check_rooms.problems(root) == []
    write(root, "src/base/error.c", '/*\n * error\n */\n#include "base/clock.h"\n')
    assert check_rooms.problems(root) == [
        "src/base: modules include each other: clock → list → error → clock"
    ]


@pytest.mark.parametrize("header", ["clock.h", "../base/clock.h", "base/nowhere.h", "nowhere/x.h"])
def test_an_include_that_does_not_name_folder_and_header_is_found(root, header):
    write(root, "src/base/error.c", f'/*\n * error\n */\n#include "{header}"\n')
    (found,) = check_rooms.problems(root)
    assert found.startswith(f'src/base/error.c:4: "{header}" is no header of src/')


def test_an_include_inside_a_comment_is_none(root):
    text = '/*\n * error\n#include "pool/pool.h"\n */\n// #include "pool/pool.h"\n'
    write(root, "src/base/error.c", text)
    assert check_rooms.problems(root) == []


@pytest.mark.parametrize("place", ["src/stray.c", "src/cellar/stray.c"])
def test_a_file_outside_the_folders_is_found(root, place):
    write(root, place, "/*\n * stray\n */\n")
    (found,) = check_rooms.problems(root)
    folder = place.rpartition("/")[0]
    assert found.startswith(f"{place}: the folder {folder} is not in the table")


def test_a_row_without_its_folder_is_found_unless_planned(root):
    shutil.rmtree(root / "src/pool")
    assert check_rooms.problems(root) == ["docs/design.md:4: there are no files in src/pool"]


@pytest.mark.parametrize("header", ["pool.h", "pool/pool.h", "../src/pool/pool.h", "nowhere.h"])
@pytest.mark.parametrize("folder", ["examples", "python/src", "tests/system"])
def test_a_program_that_reaches_into_the_library_is_found(root, folder, header):
    write(root, f"{folder}/x.c", f'/*\n * x\n */\n#include "{header}"\n')
    (found,) = check_rooms.problems(root)
    assert found.startswith(f'{folder}/x.c:4: includes "{header}"')


@pytest.mark.parametrize("header", ["pool.h", "pool/pool.h", "base/../pool/pool.h", "base/no.h"])
def test_the_command_shares_the_librarys_lowest_folder_only(root, header):
    write(root, "cli/rows/csv.c", f'/*\n * csv\n */\n#include "{header}"\n')
    (found,) = check_rooms.problems(root)
    assert found.startswith(f'cli/rows/csv.c:4: "{header}" is no header of cli/')


@pytest.mark.parametrize("header, folder", [("command.h", "cli"), ("rows/reader.h", "cli/rows")])
def test_a_part_of_the_command_that_includes_from_above_is_found(root, header, folder):
    write(root, "cli/ui/table.c", f'/*\n * table\n */\n#include "{header}"\n')
    assert check_rooms.problems(root) == [
        f'cli/ui/table.c:4: "{header}" is in {folder}, which is not below cli/ui'
    ]


def test_modules_of_the_command_that_include_each_other_are_found(root):
    write(root, "cli/rows/format.h", '/*\n * format\n */\n#include "rows/reader.h"\n')
    write(root, "cli/rows/reader.c", '/*\n * reader\n */\n#include "rows/format.h"\n')
    assert check_rooms.problems(root) == [
        "cli/rows: modules include each other: format → reader → format"
    ]


def test_a_query_that_does_not_go_through_the_session_is_found(root):
    write(root, "src/pool/pool.c", "/*\n * pool: not PQexec()\n */\nint x = PQexecParams (0);\n")
    assert check_rooms.problems(root) == [
        "src/pool/pool.c:4: calls PQexecParams; only session.c and exchange.c may"
    ]


def test_a_design_without_the_table_is_found(root):
    write(root, "docs/design.md", "# Design\n")
    assert "docs/design.md: no table with the column folder" in check_rooms.problems(root)


# ---- symbols ----

HEADER = """
/* HV_API int hv_in_a_comment(void); */
#define HV_API __attribute__((visibility("default")))
HV_API const char *hv_version(void);
HV_API hv_status hv_put(hv_store *store, int shard,
                        hv_error **error);
"""
MAP = "HYPERVAULT_0 {\nglobal:\n    hv_put; /* hv_x; */\n    hv_version;\nlocal:\n    *;\n};\n"
NM_LIBRARY = "HYPERVAULT_0 A 0\nhv_put@@HYPERVAULT_0 T 1 2\nhv_version@@HYPERVAULT_0 T 1 2\n"
NM_OBJECTS = (
    "a.a[x.o]:\nhv_put T 0 1\nhv_version T 0 1\nhvi_table R 0 1\nlocal t 0 1\n"
    "__odr_asan_gen_x B 0 1\n"
)
SONAME = "0x0e (SONAME)  Library soname: [libhypervault.so.0]"


def symbol_problems(header=HEADER, version_script=MAP, library=NM_LIBRARY, objects=NM_OBJECTS):
    return check_symbols.problems(
        exported=check_symbols.defined(library),
        in_map=check_symbols.listed(version_script),
        in_header=check_symbols.declared(header),
        internal=check_symbols.defined(objects),
        name=check_symbols.soname(SONAME),
        expected_name="libhypervault.so.0",
    )


def test_three_equal_lists_of_symbols_are_right():
    assert symbol_problems() == []


def test_a_function_that_is_only_declared_is_found():
    header = HEADER + "HV_API int hv_new(void);\n"
    assert symbol_problems(header=header) == [
        "hv_new is declared in hypervault.h but not in libhypervault.map"
    ]


def test_a_function_that_is_only_listed_is_found():
    version_script = MAP.replace("local:", "hv_new;\nlocal:")
    assert symbol_problems(version_script=version_script) == [
        "hv_new is in libhypervault.map but not declared in hypervault.h",
        "hv_new is in libhypervault.map but not exported by the library",
    ]


def test_a_symbol_that_leaks_out_is_found():
    library = NM_LIBRARY + "hvi_secret T 1 2\n"
    assert symbol_problems(library=library) == [
        "hvi_secret is exported by the library but not in libhypervault.map"
    ]


@pytest.mark.parametrize("name", ["helper", "hv_undeclared"])
def test_a_name_that_could_clash_is_found(name):
    (found,) = symbol_problems(objects=NM_OBJECTS + f"{name} D 0 1\n")
    assert found.startswith(f"{name} ")


def test_a_wrong_soname_is_found():
    name = check_symbols.soname("0x0e (SONAME)  Library soname: [libhypervault.so.1]")
    assert check_symbols.problems(set(), set(), set(), set(), name, "libhypervault.so.0") == [
        "the library's SONAME is libhypervault.so.1, not libhypervault.so.0"
    ]


# ---- options ----

LISTED = "pool_max\tinteger\t10\t1 to 1000\tHow many.\nprepare\tboolean\ton\ton, off\tIt does.\n"
CONFIG = """
| option | type | default | range | meaning |
|---|---|---|---|---|
| `pool_max` | integer | `10` | 1 to 1000 | how many |
| `prepare` | boolean | `on` | `on`, `off` | it does |

| parameter | meaning |
|---|---|
| `shards` | is no option |
"""


def option_problems(listed=LISTED, markdown=CONFIG):
    return check_options.problems(check_options.known(listed), markdown)


def test_documented_options_are_right():
    assert option_problems() == []


def test_settings_for_moves_are_compared_with_their_table():
    source = '    [HVI_MOVE_HOST] = {"move_host", "host", false},\n'
    table = "| setting | default | |\n|---|---|---|\n| `move_host` | x | y |\n"
    assert check_options.move_problems(source, table) == []
    assert check_options.move_problems(source, table.replace("host", "hots")) == [
        "docs/config.md: the setting move_host is not described",
        "docs/config.md:3: there is no setting move_hots",
    ]


def test_an_option_without_documentation_is_found():
    listed = LISTED + "epoch\tinteger\t0\t0 to 9\tFrom then.\n"
    assert option_problems(listed=listed) == ["docs/config.md: the option epoch is not described"]


def test_documentation_without_an_option_is_found():
    markdown = CONFIG.replace("`prepare`", "`prepares`")
    assert option_problems(markdown=markdown) == [
        "docs/config.md: the option prepare is not described",
        "docs/config.md:5: there is no option prepares",
    ]


@pytest.mark.parametrize(
    "right, wrong", [("`10`", "`20`"), ("1 to 1000", "any"), ("integer", "text")]
)
def test_a_wrong_default_range_or_type_is_found(right, wrong):
    (found,) = option_problems(markdown=CONFIG.replace(right, wrong))
    assert found.startswith("docs/config.md:4: the ")


# ---- commands ----

LISTING = {
    "commands": [
        {"name": "put", "options": [{"name": "kind"}]},
        {"name": "dev up"},
    ],
    "global_options": [{"name": "json"}],
}
PAGE = "COMMANDS\n   put SHARD [--kind N]\n\n   dev up\n\n   --json\n"


def test_a_man_page_with_everything_is_right():
    assert check_commands.page_problems(LISTING, PAGE) == []


@pytest.mark.parametrize(
    "right, wrong, problem",
    [
        ("dev up", "dev upwards", "the command dev up is not described"),
        ("put", "see put", "the command put is not described"),
        (" [--kind N]", "", "the option --kind is not described"),
        ("--json", "--json --xml", "there is no option --xml"),
    ],
)
def test_what_is_missing_or_too_much_in_the_man_page_is_found(right, wrong, problem):
    found = check_commands.page_problems(LISTING, PAGE.replace(right, wrong))
    assert found == [f"docs/man/hv.1: {problem}"]


@pytest.mark.parametrize(
    "by_help, written, same",
    [
        ("nobody", "nobody", True),
        ("postgres, or else nobody", "\u2018postgres\u2019, otherwise \u2018nobody\u2019", True),
        ("postgres", "postgres, otherwise nobody", False),
        ("2", "3", False),
        ("what is there", "what somebody has left", True),
    ],
)
def test_a_default_that_differs_from_the_man_pages_is_found(by_help, written, same):
    option = {"name": "user", "help": f"the user; default: {by_help}"}
    listing = {"commands": [{"name": "up", "options": [option]}]}
    text = f"     up\n{' ' * 13}-u, --user name\n{' ' * 21}As root.  The default is {written}.\n"
    assert (check_commands.default_problems(listing, text) == []) == same


def test_an_example_of_a_command_that_does_not_exist_is_found():
    text = "```sh\n$ hv --json put 5\nhv pull 5\n```\nhv shoves\n"
    assert check_commands.example_problems(LISTING, "README.md", text) == [
        "README.md:3: there is no command hv pull"
    ]


def test_an_example_that_is_no_cpp_is_found(root):
    write(root, "examples/x.c", "/*\n * x\n */\nint *f(void *at);\nint *f(void *at) { return at; }\n")
    (found,) = check_headers.problems(root, [])
    assert found.startswith("examples/x.c: does not compile alone with g++:")


# ---- text, format, headers, scripts ----


@pytest.mark.parametrize(
    "text, problem",
    [
        ("int x;\n", "src/x.c: does not open with a comment that says its purpose"),
        ("/*\n * x\n */\n/* TO" "DO: later */\n", "src/x.c:4: TO" "DO does not belong here"),
        ("/*\n * x\n */\n/* /wo" "rk/x */\n", "src/x.c:4: /wo" "rk/x does not belong here"),
        ("/*\n * x\n */\nint x; \n", "src/x.c:4: blanks at the end of the line"),
        ("/*\n * x\n */\n\tint x;\n", "src/x.c:4: a tab"),
        ("/*\n * x\n */\nint x;", "src/x.c: the last line has no end"),
    ],
)
def test_text_that_is_not_in_order_is_found(root, text, problem):
    write(root, "src/x.c", text)
    assert check_text.problems(root) == [problem]


def test_a_long_file_is_warned_of(root):
    assert check_text.warnings(root) == []
    write(root, "src/x.c", "/*\n * x\n */\n" + "int x;\n" * 600)
    assert check_text.problems(root) == []
    assert check_text.warnings(root) == ["src/x.c: has 603 lines: is it one concept?"]


def test_bytes_that_are_not_utf8_are_found(root):
    (root / "README.md").write_bytes(b"\xff\n")
    assert check_text.problems(root) == ["README.md: is not UTF-8"]


def test_build_folders_and_hidden_ones_are_left_alone(root):
    for name in ("build/x.c", ".git/x.c", "out/meson-private/x", "out/x.c"):
        write(root, name, "int x;")
    assert check_text.problems(root) == []


def test_an_unformatted_file_is_found(root):
    program = check_format.formatter()
    if program is None:
        pytest.skip("clang-format is not installed")
    assert check_format.problems(root, program) == []
    write(root, "src/x.c", "/*\n * x\n */\nint  x;\n")
    assert check_format.problems(root, program) == [
        "src/x.c:4: is not formatted (clang-format -i)"
    ]


def test_a_header_that_needs_another_before_it_is_found(root):
    write(root, "src/base/clock.h", "/*\n * clock\n */\nint64_t now(void);\n")
    (found,) = check_headers.problems(root, [])
    assert found.startswith("src/base/clock.h: does not compile alone with gcc")


def test_a_public_header_that_is_not_cxx_is_found(root):
    write(root, "include/hypervault.h", "/*\n * x\n */\nint hv_f(int class);\n")
    (found,) = check_headers.problems(root, [])
    assert found.startswith("include/hypervault.h: does not compile alone with g++")


def test_a_careless_script_is_found(root):
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    assert check_scripts.problems(root, shellcheck) == []
    write(root, "dev/careless", "#!/bin/bash\nrm $1\n")
    found = check_scripts.problems(root, shellcheck)
    assert found[0] == "dev/careless: does not set -euo pipefail"
    assert found[1] == "dev/careless: is not executable"
    assert "SC2086" in found[2]


# ---- types ----


def test_a_wrong_type_in_the_python_package_is_found(root):
    pytest.importorskip("mypy")
    write(root, "pyproject.toml", "[tool.mypy]\nstrict = true\n")
    write(root, "python/hv/entity.py", '"""Keys."""\n\ndef key(text: str) -> int:\n    return 1\n')
    assert check_types.problems(root) == []
    write(root, "python/hv/entity.py", '"""Keys."""\n\ndef key(text: str) -> int:\n    return text\n')
    (found,) = check_types.problems(root)
    assert found.startswith("python/hv/entity.py:4: error: Incompatible return value type")


# ---- SQL ----


GOOD_SQL = """/*
 * good
 */
#define ONE "pg_catalog.max(id) OPERATOR(pg_catalog.>>) 3"
static const char hint[] = "Run it again, or type WHERE id = 3.";
void f(void) {
    say("SELECT " ONE ", 'a = b' FROM %s.entities AS e (id)"
        " WHERE id OPERATOR(pg_catalog.=) ANY ($1) AND n OPERATOR(pg_catalog.%%) -3"
        " ORDER BY name COLLATE pg_catalog.\\"C\\"", %d, 3 * 4);
    say("UPDATE hypervault.layout SET a = %" PRId64 ", b = $1::pg_catalog.text, c = '1'::bigint");
    say(" AND coalesce(a, 0) IS NULL /* a = b */");
}
"""


def test_sql_in_which_all_names_have_their_schema_passes(root):
    write(root, "src/good.c", GOOD_SQL)
    write(root, "python/hv/good.py", '"""Good."""\nSQL = "SELECT pg_catalog.now()"\n')
    assert check_sql.problems(root) == []


@pytest.mark.parametrize(
    "sql, fault",
    [
        ("SELECT max(id)", "the function max() has no schema"),
        ("SELECT id FROM shard0001.entities WHERE id = $1", "the operator = has no schema"),
        (" AND id % 3", "the operator % has no schema"),
        ("SELECT $1::text", "the type text has no schema"),
        ("SELECT '1'::regclass", "the type regclass has no schema"),
        ("CREATE TABLE a.b (c text NOT NULL)", "the type text has no schema"),
        ("SELECT 1 FROM pg_class", "pg_class has no schema"),
        (" ORDER BY a COLLATE C", "the collation C has no schema"),
        (" WHERE a IN (1, 2)", "IN ( looks an operator up"),
        (" AND a BETWEEN 1 AND 2", "BETWEEN looks an operator up"),
        (" AND a NOT LIKE 'x'", "LIKE looks an operator up"),
        (" AND a IS DISTINCT FROM b", "DISTINCT FROM looks an operator up"),
        ("SELECT NULLIF(a, b)", "NULLIF looks an operator up"),
        ("SELECT CASE a WHEN 1 THEN 2 END", "CASE a looks an operator up"),
        ("SELECT FROM a.b JOIN a.c USING (d)", "JOIN a.c USING ( looks an operator up"),
        ("SELECT FROM a.b NATURAL JOIN a.c", "NATURAL looks an operator up"),
    ],
)
def test_what_depends_on_the_search_path_is_found(root, sql, fault):
    write(root, "src/bad.c", f'/*\n * bad\n */\nchar s[] = "{sql}";\n')
    write(root, "python/bad.py", f'"""Bad."""\n\n\nS = "{sql}"\n')
    found = check_sql.problems(root)
    assert f"src/bad.c:4: {fault}" in found
    assert f"python/bad.py:4: {fault}" in found


# ---- packaging ----

PACKAGING = (
    "meson.build",
    "pyproject.toml",
    "CHANGELOG.md",
    "debian/changelog",
    "debian/libhypervault0.symbols",
    "docs/install.md",
    "docs/sql.md",
    "docs/man/hv.1",
    "extension/META.json",
    "extension/hypervault.control",
    "include/hypervault.h",
    "src/libhypervault.map",
)


@pytest.fixture
def packaged(tmp_path):
    """The files that check_packaging reads, as they are."""
    for name in PACKAGING:
        write(tmp_path, name, checking.read(checking.ROOT, name))
    return tmp_path


def change(root, name, old, new):
    text = checking.read(root, name)
    assert old in text
    write(root, name, text.replace(old, new, 1))


def test_packages_that_agree_have_no_problems(packaged):
    assert check_packaging.problems(packaged) == []
    change(packaged, "CHANGELOG.md", "\n## ", "\n## Unreleased\n\n- More.\n\n## ")
    assert check_packaging.problems(packaged) == []


@pytest.mark.parametrize("place", [place for place, _, _ in check_packaging.PLACES])
def test_another_version_is_found_wherever_it_stands(packaged, place):
    meson = checking.read(packaged, "meson.build")
    version = re.search(r"version: '(.*)'", meson).group(1)
    text = checking.read(packaged, place)
    write(packaged, place, text.replace(version, "7.8.9"))
    (found,) = check_packaging.version_problems(packaged)
    assert found.startswith(f"{place}: ") and found.endswith(f"says 7.8.9, meson.build {version}")
    write(packaged, place, text.replace(version, ""))
    (found,) = check_packaging.version_problems(packaged)
    assert "does not say the version" in found


def test_a_version_that_only_meson_build_says_is_found_everywhere(packaged):
    meson = checking.read(packaged, "meson.build")
    write(packaged, "meson.build", re.sub(r"version: '.*'", "version: '7.8.9'", meson, count=1))
    found = " ".join(check_packaging.version_problems(packaged))
    assert all(f"{place}: " in found for place, _, _ in check_packaging.PLACES)
    assert "docs/install.md:" in found


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ("{", "", "is not JSON"),
        ('"abstract"', '"abstrakt"', "abstract is missing"),
        ('"tags"', '"tag"', "there is no key tag"),
        ('"license": "mit"', '"license": "MIT License"', "MIT License is no licence"),
        ('"stable"', '"perfect"', "perfect is no status"),
        ('"version": "1.0.0"\n    }', '"version": "1.1.0"\n    }', "says 1.0"),
        ("hypervault--1.0.sql", "hypervault.sql", "the file of hypervault is hypervault.sql"),
        ('"sql.md"', '"SQL.md"', "SQL.md, is not in docs"),
    ],
)
def test_a_description_that_pgxn_would_refuse_is_found(packaged, old, new, problem):
    change(packaged, "extension/META.json", old, new)
    found = check_packaging.problems(packaged)
    assert any(problem in it for it in found), found


def test_a_function_that_the_packages_symbols_lack_is_found(packaged):
    change(packaged, "src/libhypervault.map", "hv_acquire;", "hv_acquire;\n    hv_new;")
    change(packaged, "src/libhypervault.map", "    hv_close;\n", "")
    place = "debian/libhypervault0.symbols"
    assert check_packaging.problems(packaged) == [
        f"{place}: lacks hv_new",
        f"{place}: hv_close is not exported",
    ]


COLLECTED = """\
import pytest


class Nameless:
    pass


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_it(value):
    pass
"""


@pytest.mark.parametrize(
    "values, is_steady",
    [
        ("[Nameless]", True),
        ("[[Nameless()]]", False),
        ("sorted({'a', 'b', 'c', 'd', 'e', 'f'})", True),
        ("{'a', 'b', 'c', 'd', 'e', 'f'}", False),
    ],
)
def test_tests_whose_names_or_order_differ_between_processes_are_found(
    tmp_path, values, is_steady
):
    write(tmp_path, "test_it.py", COLLECTED.replace("VALUES", values))
    assert (check_collection.problems(tmp_path, tmp_path) == []) == is_steady
