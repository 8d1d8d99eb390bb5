-- The sequences that can make keys, and the effects of DDL on them.
\pset format unaligned
\pset tuples_only

-- Sequences that cannot make keys, and the statement that fixes them.
CREATE SCHEMA "odd schema";
CREATE SEQUENCE "odd schema".twos INCREMENT 2;
SELECT failure($$SELECT hypervault.next_id('"odd schema".twos', 1)$$);
ALTER SEQUENCE "odd schema".twos AS bigint INCREMENT 1 NO MAXVALUE NO CYCLE;
SELECT hypervault.next_id('"odd schema".twos', 1) > 0;
CREATE SEQUENCE small AS integer;
SELECT failure($$SELECT hypervault.next_id('small', 1)$$);
ALTER SEQUENCE public.small AS bigint INCREMENT 1 NO MAXVALUE NO CYCLE;
SELECT hypervault.next_id('small', 1) > 0;
CREATE SEQUENCE limited MAXVALUE 1125899906842622;
SELECT failure($$SELECT hypervault.next_id('limited', 1)$$);
ALTER SEQUENCE limited MAXVALUE 1125899906842623;
SELECT hypervault.next_id('limited', 1) > 0;
CREATE SEQUENCE round CYCLE;
SELECT failure($$SELECT hypervault.next_id('round', 1)$$);
SELECT failure($$SELECT hypervault.advance('round', 1)$$);
ALTER SEQUENCE public.round AS bigint INCREMENT 1 NO MAXVALUE NO CYCLE;
SELECT hypervault.next_id('round', 1) > 0;
DROP SEQUENCE "odd schema".twos, small, limited, round;
DROP SCHEMA "odd schema";

-- A cache changes nothing; nor does a start in the middle.
CREATE SEQUENCE seq CACHE 100 START 1000;
SELECT hypervault.next_id('seq', 1) AS k1 \gset
SELECT hypervault.next_id('seq', 1) AS k2 \gset
SELECT :k2 > :k1;

-- Altered by this session, in this transaction, and then rolled back.
BEGIN;
SELECT hypervault.next_id('seq', 1) > :k2;
ALTER SEQUENCE seq INCREMENT 3;
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);
ROLLBACK;
SELECT hypervault.next_id('seq', 1) > :k2;

-- With a file that a rollback would remove, no keys are made until the commit.
BEGIN;
ALTER SEQUENCE seq CACHE 50;
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);
SELECT failure($$SELECT hypervault.next_ids('seq', 1, 1)$$);
SELECT failure($$SELECT hypervault.advance('seq', 1)$$);
COMMIT;
SELECT hypervault.next_id('seq', 1) > :k2;

-- In savepoints, kept and rolled back.
SELECT hypervault.next_id('seq', 1) AS k1 \gset
BEGIN;
SAVEPOINT a;
SELECT hypervault.next_id('seq', 1) AS k2 \gset
ROLLBACK TO a;
SELECT hypervault.next_id('seq', 1) AS k3 \gset
SAVEPOINT b;
ALTER SEQUENCE seq CYCLE;
ROLLBACK TO b;
SELECT hypervault.next_id('seq', 1) AS k4 \gset
SELECT count(*) FROM pg_locks
WHERE locktype = 'relation' AND relation = 'seq'::regclass AND mode = 'RowExclusiveLock';
COMMIT;
SELECT hypervault.next_id('seq', 1) AS k5 \gset
SELECT :k1 < :k2 AND :k2 < :k3 AND :k3 < :k4 AND :k4 < :k5;

-- Dropped and created again: a new sequence, which the clock moves on.
SELECT 'seq'::regclass::oid AS old \gset
SELECT pg_sleep(0.002);
DROP SEQUENCE seq;
SELECT regexp_replace(failure('SELECT hypervault.next_id(' || :old || '::regclass, 1)'), '\d{4,}', 'N');
CREATE SEQUENCE seq;
SELECT hypervault.next_id('seq', 1) > :k5;
BEGIN;
SELECT hypervault.next_id('seq', 1) > :k5;
DROP SEQUENCE seq;
CREATE SEQUENCE seq;
SELECT hypervault.next_id('seq', 1) > :k5;
ROLLBACK;
SELECT hypervault.next_id('seq', 1) > :k5;

-- Other sequences between two calls.
CREATE SEQUENCE another;
SELECT hypervault.next_id('seq', 1) AS k1 \gset
SELECT hypervault.next_id('another', 2) AS other1 \gset
SELECT hypervault.next_id('seq', 1) AS k2 \gset
SELECT hypervault.next_id('another', 2) AS other2 \gset
SELECT :k1 < :k2 AND :other1 < :other2;
DROP SEQUENCE another;

-- Set back by hand: the clock moves it on.
SELECT pg_sleep(0.002);
SELECT setval('seq', 1);
SELECT hypervault.next_id('seq', 1) > :k2;
SELECT setval('seq', 5, false);
SELECT hypervault.next_id('seq', 1) > :k2;

-- Set too far: an error that says so.
SELECT setval('seq', 9223372036854775807);
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);
DROP SEQUENCE seq;

-- A temporary one works, in a read-only transaction too.
CREATE TEMPORARY SEQUENCE temporary_seq;
SELECT hypervault.next_id('temporary_seq', 1) AS k1 \gset
BEGIN READ ONLY;
SELECT hypervault.next_id('temporary_seq', 1) AS k2 \gset
SELECT hypervault.advance('temporary_seq', :k2);
COMMIT;
SELECT hypervault.next_id('temporary_seq', 1) AS k3 \gset
SELECT :k1 < :k2 AND :k2 < :k3;
DROP SEQUENCE temporary_seq;

-- An identity column's.
CREATE TABLE identity (id bigint GENERATED ALWAYS AS IDENTITY);
SELECT hypervault.next_id(pg_get_serial_sequence('identity', 'id'), 1) > 0;
DROP TABLE identity;
