#!/usr/bin/python3
"""Is every name in SQL qualified? Names that the search_path resolves could be another role's:
functions, operators, types, collations, PostgreSQL's own tables, and syntax that looks operators up
implicitly. docs/design.md says why.

A string literal is SQL if it begins like SQL or names pg_catalog. Texts that people read and type,
such as hints, begin otherwise.
"""

import ast
import re

import checking

FOLDERS = ("src", "cli", "examples", "bench", "python")

BEGINS = re.compile(
    r"[\s({]*(?:SELECT|WITH|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP|LOCK|COPY|DO|BEGIN"
    r"|SET|SAVEPOINT|FROM|LEFT JOIN|JOIN|ON|WHERE|AND|OR|NOT|ORDER BY|CASE|WHEN|EXISTS|VALUES|IF"
    r"|RETURNS?|PERFORM|DECLARE|TRUNCATE|EXPLAIN)\b"
)

# Words that may precede a parenthesis and are not functions. coalesce and greatest are syntax, and
# take no operator from the search_path.
NO_FUNCTIONS = set(
    """all always and any array as by cast explain lateral check coalesce conflict constraint copy
    distinct else entities exists filter from greatest if in into is join key least limit
    lock materialized not on operator or over primary references returning returns rows
    select set stdin stdout then to unique update using values when where with within extract
    interval bigint boolean integer smallint row bit""".split()
)
KEYWORD_TYPES = set(
    """bigint integer int smallint boolean real float numeric decimal double char character varchar
    bit time timestamp interval""".split()
)
LOOKS_UP = re.compile(
    r"\b(?:IN\s*\(|BETWEEN\b|I?LIKE\b|SIMILAR\s+TO\b|DISTINCT\s+FROM\b|NULLIF\b|CASE\s+(?!WHEN\b)\w"
    r"|NATURAL\b|JOIN\s+[^;]{0,60}?\bUSING\s*\()",
    re.IGNORECASE,
)
_C_TOKEN = re.compile(
    r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\])+'|\w+|\\\n|\s+|.""", re.DOTALL
)
_MACRO = re.compile(r"[A-Z][A-Z0-9_]+|PRI[a-z]\d+")
_FORMAT = re.compile(r"%[-0-9.*]*(?:ll)?[sdubh]")


def c_strings(text):
    """(line, text) of each literal of C; adjacent literals are joined. Text that a macro or a
    conversion inserts is taken for a name, q."""
    line, begun, said = 1, None, ""
    for token in _C_TOKEN.findall(text):
        if token.startswith('"'):
            begun = begun or line
            said += token[1:-1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
        elif begun and _MACRO.fullmatch(token):
            is_number = said.endswith("%") and token.startswith("PRI")
            said = said[:-1] + "q" if is_number else said + " q "
        elif begun and not token.isspace() and not token.startswith(("/*", "\\")):
            yield begun, named(said)
            begun, said = None, ""
        line += token.count("\n")


def named(said):
    said = re.sub(r"(?<=%)q", "q", said)
    return re.sub(r"q(?=[A-Z]{2})", "q ", _FORMAT.sub("q", said)).replace("%%", "%")


def python_strings(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "q" for part in node.values)
            yield node.lineno, named("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, named(node.value)


def is_sql(said):
    return BEGINS.match(said) is not None or "pg_catalog." in said


# A column's type, without ::.
_COLUMN_TYPE = re.compile(
    r"[a-z_]\s+(text|timestamptz|regclass|oid|name|float8|int8|int4|int2)"
    r"\s*(?=NOT NULL|PRIMARY|DEFAULT|,|\))"
)
_FUNCTION = re.compile(r"(?<![\w.\"$])([a-z_]\w*)\s*\(", re.IGNORECASE)
# The keywords that introduce names of columns, of an alias, a table or a function's parameters.
_NO_CALL = re.compile(r"\b(?:AS|WITH|TABLE|FUNCTION)$|,\s*q?$")
# Signs that are not operators: casts, assignments, RAISE's options, a pgbench variable's line.
_NO_OPERATOR = re.compile(
    r"::|:=|=>|\$\w*\$|\(\*\)|SELECT \*|\b(?:DETAIL|HINT|ERRCODE|MESSAGE)\s+=|\bSET\s+\w+\s*=|\\set[^\n]*\n"
    r"|(?<![\w)])\s-\d|\(-\d|\bELSE -\d"
)


def assignments_left_out(match):
    return re.sub(r",\s*\w+\s*=", " ", match.group())


def operators(sql):
    bare = re.sub(r"OPERATOR\((?:pg_catalog|public|q)\.[^)]+\)", " ", sql)
    bare = _NO_OPERATOR.sub(" ", bare)
    bare = re.sub(r"\bUPDATE\b[^;]*?(?=\bWHERE\b|;|$)", assignments_left_out, bare)
    return re.findall(r"[-+*/<>=~!@#%^&|]+", bare)


def functions(sql):
    sql = re.sub(r"\\set[^\n]*\n", " ", sql)
    for match in _FUNCTION.finditer(sql):
        name = match.group(1)
        is_call = not _NO_CALL.search(sql[: match.start()].rstrip())
        if is_call and name.lower() not in NO_FUNCTIONS | {"q"} and not name.startswith("pg_"):
            yield name


def types(sql):
    for name in re.findall(r"::\s*([\w.\"]+)", sql):
        if "." not in name and name not in KEYWORD_TYPES | {"q"}:
            yield name
    yield from _COLUMN_TYPE.findall(sql)


def faults(sql):
    """The parts of a statement that depend on the search_path."""
    sql = re.sub(r"/\*.*?\*/", " ", sql, flags=re.DOTALL)
    sql = re.sub(r"'(?:''|[^'])*'", " '' ", sql)
    for match in LOOKS_UP.finditer(sql):
        yield f"{' '.join(match.group().split())} looks an operator up"
    collations = re.findall(r"COLLATE\s+(?!pg_catalog\.)(\S+)", sql)
    names = [f"the collation {name}" for name in collations]
    names += [f"the type {name}" for name in types(sql)]
    names += [
        name
        for name in re.findall(r"(?<![\w.\"])(pg_\w+)(?!\w*\.)", sql)
        if name not in ("pg_catalog", "pg_temp")
    ]
    names += [f"the function {name}()" for name in functions(sql)]
    names += [f"the operator {name}" for name in operators(sql)]
    for name in names:
        yield f"{name} has no schema"


def problems(root):
    found = []
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            continue
        for path in checking.files(root / folder, ".c", ".h", ".py"):
            text = path.read_text(encoding="utf-8")
            strings = python_strings(text) if path.suffix == ".py" else c_strings(text)
            for line, said in strings:
                if is_sql(said):
                    found += [f"{path.relative_to(root)}:{line}: {fault}" for fault in faults(said)]
    return found


if __name__ == "__main__":
    checking.report(problems(checking.ROOT))
