"""Objects that a role plants in a schema on others' search_path, so that others run them.

A decoy has the name of one of PostgreSQL's own functions, operators, types or views, and the same
arguments or ones that fit better. When it is called it writes that to the server's log, and then
does what the real one does, if possible. So a statement that names things without their schema
mostly works, and is found out.
"""

import re

CALLED = "decoy called: "

def _own(names):
    """PostgreSQL's types by their full names; an array's begins with _."""
    return [f'pg_catalog."{name}"' for name in names.split()]


# Argument types that calls are likely to have, and that PostgreSQL's own functions often do not.
_TYPES = _own(
    "int2 int4 int8 float4 float8 numeric text varchar name bpchar oid regclass regtype bool char"
    " regprocedure timestamptz timestamp interval oidvector _int2 _int4 _int8 _text _name _oid"
) + ['public."hstore"', 'public."_hstore"']
_OPERANDS = _own(
    "int2 int4 int8 float8 numeric text varchar name oid regclass regtype bool char timestamptz"
    " oidvector _int2 _int8"
)

# The types that polymorphic ones stand for.
_ELEMENTS = _own("int2 int4 int8 text name") + ['public."hstore"']
_ANY_ELEMENT = _own("anyelement anynonarray anycompatible anycompatiblenonarray")
_ANY_ARRAY = _own("anyarray anycompatiblearray")

_PREPARE = """
CREATE FUNCTION public.decoy_row(text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN RAISE LOG 'decoy called: %', $1; RETURN true; END $$;
CREATE FUNCTION public.decoy_count(bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN RAISE LOG 'decoy called: count(*)'; RETURN $1 OPERATOR(pg_catalog.+) 1; END $$;
CREATE AGGREGATE public.count(*) (SFUNC = public.decoy_count, STYPE = bigint, INITCOND = '0');
"""

_NAME = "(SELECT format('%%I.\"%%s\"', n.nspname, t.typname) FROM pg_type t"
_NAME += " JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = {})"

_FUNCTIONS = f"""
SELECT proname, prokind, proretset, {_NAME.format("prorettype")},
    ARRAY(SELECT {_NAME.format("a.t")} FROM unnest(proargtypes) WITH ORDINALITY a(t, n) ORDER BY n)
FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a')
    AND proname = ANY (%s) AND provariadic = 0
    AND NOT EXISTS (SELECT FROM unnest(proargtypes::oid[] || prorettype) a(t)
        WHERE t::regtype::text IN ('internal', 'cstring', '"any"', 'trigger', 'record', 'void'))
ORDER BY oid
"""

_OPERATORS = f"""
SELECT oprname, {_NAME.format("oprleft")}, {_NAME.format("oprright")}, {_NAME.format("oprresult")}
FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname = ANY (%s)
    AND oprleft <> 0
ORDER BY oid
"""


def _names(database, words, query):
    return {row[0] for row in database.query(query, list(words))}


def _short(what):
    return what.replace("pg_catalog.", "").replace('"', "")


def _log(what):
    return f"RAISE LOG $decoy${CALLED}{what.replace('%', '%%')}$decoy$; "


def _function(schema_name, arguments, result, returned, what):
    return (
        f"CREATE FUNCTION {schema_name}({', '.join(arguments)}) RETURNS {result}"
        f" LANGUAGE plpgsql AS $body$ BEGIN {_log(what)}{returned} END $body$;"
    )


def _array_of(element):
    schema, name = element.replace('"', "").split(".")
    return f'{schema}."_{name}"'


def _concrete(types):
    """The signatures that a polymorphic one stands for, the result last."""
    if not any(each in _ANY_ELEMENT + _ANY_ARRAY for each in types):
        yield types
        return
    for element in _ELEMENTS:
        yield [
            element if each in _ANY_ELEMENT else _array_of(element) if each in _ANY_ARRAY else each
            for each in types
        ]


def _is_pseudo(types):
    """Ranges of polymorphic types, and the like."""
    return any('."any' in each for each in types)


def _better(arguments):
    """The same arguments except one, which fits better."""
    for place in range(len(arguments)):
        for each in _TYPES:
            yield [*arguments[:place], each, *arguments[place + 1 :]]


def _functions(database, names):
    made = set()
    rows = database.query(_FUNCTIONS, sorted(names))
    signatures = [
        (name, kind, is_set, concrete)
        for name, kind, is_set, result, arguments in rows
        for concrete in _concrete([*arguments, result])
        if not _is_pseudo(concrete)
    ]
    for spread in (lambda arguments: [arguments], _better):  # the real ones' arguments come first
        for name, kind, is_set, (*real, result) in signatures:
            for arguments in spread(real):
                if (name, *arguments) in made:
                    continue
                made.add((name, *arguments))
                given = ", ".join(f"${n}" for n in range(1, len(real) + 1))
                call = f'pg_catalog."{name}"({given})'
                if kind == "a":  # a plain one of the same name and arguments hides an aggregate
                    returned = "RETURN NULL;"
                elif is_set:
                    returned = f"RETURN QUERY SELECT {call};"
                else:
                    returned = f"RETURN {call};"
                declared = f"SETOF {result}" if is_set else result
                what = _short(f"{name}({', '.join(arguments)})")
                yield _function(f'public."{name}"', arguments, declared, returned, what)


def _operators(database, names):
    made = set()
    rows = database.query(_OPERATORS, sorted(names))
    number = 0
    for better in (False, True):  # those with the same operands come first
        for name, left, right, result in rows:
            types = [(left, right)]
            if better and left == right and left in _own("int8 float8 text name"):
                types = [(a, b) for a in _OPERANDS for b in _OPERANDS]
            for *operands, returns in (
                each for pair in types for each in _concrete([*pair, result])
            ):
                key = (name, *operands)
                if key in made or _is_pseudo([*operands, returns]):
                    continue
                made.add(key)
                number += 1
                what = _short(f"{operands[0]} {name} {operands[1]}")
                returned = f"RETURN $1 OPERATOR(pg_catalog.{name}) $2;"
                function = f"public.decoy_operator_{number}"
                yield _function(function, operands, returns, returned, what)
                yield (
                    f"CREATE OPERATOR public.{name} (LEFTARG = {operands[0]},"
                    f" RIGHTARG = {operands[1]}, FUNCTION = {function});"
                )


def _types(database, names):
    """Domains, since a value is checked when it is converted to one."""
    for (name,) in database.query(
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
        " AND typtype = 'b' AND typname = ANY (%s) AND typname !~ '^(_|pg_|any)'"
        " AND typname NOT IN ('oidvector', 'int2vector')",
        sorted(names),
    ):
        yield (
            f'CREATE DOMAIN public."{name}" AS pg_catalog."{name}"'
            f" CHECK (public.decoy_row('type {name}'));"
        )


def _views(database, names):
    for name, columns in database.query(
        "SELECT relname, string_agg(quote_ident(attname), ', ' ORDER BY attnum)"
        " FROM pg_class c JOIN pg_attribute ON attrelid = c.oid"
        " WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')"
        " AND relname = ANY (%s) AND attnum > 0 AND atttypid <> 'anyarray'::regtype GROUP BY 1",
        sorted(names),
    ):
        yield (
            f"CREATE VIEW public.{name} AS SELECT {columns} FROM pg_catalog.{name}"
            f" WHERE public.decoy_row('relation {name}');"
            f"GRANT SELECT ON public.{name} TO PUBLIC;"
        )


def plant(database, statements):
    """Plant decoys for every name in the text of these statements. Returns the names that they
    decoy."""
    words = set(re.findall(r"\w+", statements.lower())) - {"count"}
    operators = set(re.findall(r"[-+*/<>=~!@#%^&|]+", statements))
    functions = _names(database, words, "SELECT proname FROM pg_proc WHERE proname = ANY (%s)")
    found = _names(database, operators, "SELECT oprname FROM pg_operator WHERE oprname = ANY (%s)")
    script = [_PREPARE]
    script += _functions(database, functions)
    script += _operators(database, found)
    # Types come last, since the other decoys are written with them.
    script += _views(database, words)
    script += _types(database, words)
    with database.connect(options="-c check_function_bodies=off") as connection:
        with connection.cursor() as cursor:
            cursor.execute("".join(script))
    return functions | found


def called(log):
    """The decoys that were called, according to the server's log."""
    return sorted(set(re.findall(rf"{CALLED}(.*)", log)))
