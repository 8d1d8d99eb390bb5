CREATE SEQUENCE seq;

-- Past the key of another generator that runs ahead, whatever its shard.
SELECT hypervault.make_key(clock_timestamp() + interval '1 hour', 8191, 1023) AS ahead \gset
SELECT hypervault.advance('seq', :ahead);
SELECT hypervault.next_id('seq', 0) AS next \gset
SELECT :next > :ahead AS greater,
       hypervault.key_created(:next) - hypervault.key_created(:ahead) AS later;

-- Never back: neither to an earlier key nor to the same one.
SELECT last_value AS before FROM seq \gset
SELECT hypervault.advance('seq', 1);
SELECT hypervault.advance('seq', 307821103844175873);
SELECT hypervault.advance('seq', :ahead);
SELECT last_value - :before AS moved FROM seq;

-- Before the first key is made; the whole millisecond of the key is skipped.
CREATE SEQUENCE fresh;
SELECT hypervault.advance('fresh', 1);
SELECT last_value, is_called FROM fresh;
SELECT hypervault.next_id('fresh', 0, 9000000000000000);
SELECT hypervault.next_id('fresh', 0) > 1000000 AS now;
DROP SEQUENCE fresh;

-- nextval() goes on from there.
SELECT last_value AS before FROM seq \gset
SELECT nextval('seq') - :before AS one;

-- NULL does nothing.
SELECT hypervault.advance('seq', NULL) IS NULL AS nothing;

-- Errors.
\pset format unaligned
\pset tuples_only
SELECT failure($$SELECT hypervault.advance('seq', 0)$$);
SELECT failure($$SELECT hypervault.advance('seq', -5)$$);
SELECT failure($$SELECT hypervault.advance('seq', 9223372036854775807)$$);
SELECT failure($$SELECT hypervault.advance('pg_class', 5)$$);
BEGIN READ ONLY;
SELECT failure($$SELECT hypervault.advance('seq', 5)$$);
ROLLBACK;
DROP SEQUENCE seq;

-- To the last millisecond but one: 1,024 keys are left.
CREATE SEQUENCE late;
SELECT hypervault.advance('late', ((1::bigint << 40) - 2) << 23);
SELECT max(k) FROM hypervault.next_ids('late', 8191, 1024) k;
SELECT failure($$SELECT hypervault.next_id('late', 0)$$);
SELECT failure($$SELECT hypervault.next_ids('late', 0, 1)$$);
DROP SEQUENCE late;
