-- The extension creates its schema and reports its version.
CREATE EXTENSION hypervault;
SELECT extversion = hypervault.version() AS same_version, nspname
FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
WHERE extname = 'hypervault';

-- The volatility and parallel safety of each function.
SELECT p.oid::regprocedure AS function, provolatile AS volatile, proparallel AS parallel,
       proisstrict AS strict
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
JOIN pg_extension e ON e.oid = d.refobjid AND d.deptype = 'e'
WHERE e.extname = 'hypervault'
ORDER BY 1;

-- Every one has a description.
SELECT p.oid::regprocedure FROM pg_proc p
WHERE pronamespace = 'hypervault'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;

-- It cannot be created in another schema, and uses its schema if that exists already.
ALTER EXTENSION hypervault SET SCHEMA public;
DROP EXTENSION hypervault;
CREATE EXTENSION hypervault WITH SCHEMA public;
CREATE TABLE hypervault.layout (version integer);
CREATE EXTENSION hypervault;
SELECT hypervault.version() IS NOT NULL AS installed;
DROP TABLE hypervault.layout;

-- For the other tests: the error with which a statement fails.
CREATE FUNCTION failure(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no failure';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''),
        'HINT: ' || nullif(hint, ''));
END $$;
