-- As for nextval() and setval(): keys need USAGE or UPDATE on the sequence, advance() needs UPDATE.
\pset format unaligned
\pset tuples_only
CREATE ROLE regress_hypervault_user;
CREATE ROLE regress_hypervault_group;
GRANT USAGE ON SCHEMA hypervault TO regress_hypervault_user;
CREATE SEQUENCE seq;

SET ROLE regress_hypervault_user;
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);
SELECT failure($$SELECT hypervault.next_ids('seq', 1, 1)$$);
SELECT failure($$SELECT hypervault.advance('seq', 1)$$);

RESET ROLE;
GRANT SELECT ON SEQUENCE seq TO regress_hypervault_user;
SET ROLE regress_hypervault_user;
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);

RESET ROLE;
GRANT USAGE ON SEQUENCE seq TO regress_hypervault_user;
SET ROLE regress_hypervault_user;
SELECT hypervault.next_id('seq', 1) > 0;
SELECT count(*) FROM hypervault.next_ids('seq', 1, 2);
SELECT failure($$SELECT hypervault.advance('seq', 1)$$);

RESET ROLE;
REVOKE ALL ON SEQUENCE seq FROM regress_hypervault_user;
GRANT UPDATE ON SEQUENCE seq TO regress_hypervault_user;
SET ROLE regress_hypervault_user;
SELECT hypervault.next_id('seq', 1) > 0;
SELECT hypervault.advance('seq', 1);

-- What is known of one user does not hold for another, nor after rights have changed, within one
-- transaction too.
RESET ROLE;
BEGIN;
SELECT hypervault.next_id('seq', 1) > 0;
SET LOCAL ROLE regress_hypervault_group;
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);
RESET ROLE;
GRANT USAGE ON SCHEMA hypervault TO regress_hypervault_group;
SELECT hypervault.next_id('seq', 1) > 0;
SET LOCAL ROLE regress_hypervault_group;
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);
SET LOCAL ROLE regress_hypervault_user;
SELECT hypervault.next_id('seq', 1) > 0;
RESET ROLE;
REVOKE ALL ON SEQUENCE seq FROM regress_hypervault_user;
SET LOCAL ROLE regress_hypervault_user;
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);
RESET ROLE;
GRANT USAGE ON SEQUENCE seq TO regress_hypervault_group;
GRANT regress_hypervault_group TO regress_hypervault_user;
SET LOCAL ROLE regress_hypervault_user;
SELECT hypervault.next_id('seq', 1) > 0;
RESET ROLE;
REVOKE regress_hypervault_group FROM regress_hypervault_user;
SET LOCAL ROLE regress_hypervault_user;
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);
COMMIT;

-- A function that runs as its owner has its owner's rights.
CREATE FUNCTION key_for_all() RETURNS bigint LANGUAGE sql SECURITY DEFINER
AS $$ SELECT hypervault.next_id('public.seq', 1) $$;
SET ROLE regress_hypervault_user;
SELECT key_for_all() > 0;
SELECT failure($$SELECT hypervault.next_id('seq', 1)$$);
RESET ROLE;
DROP FUNCTION key_for_all();

DROP SEQUENCE seq;
DROP OWNED BY regress_hypervault_user, regress_hypervault_group;
DROP ROLE regress_hypervault_user, regress_hypervault_group;
