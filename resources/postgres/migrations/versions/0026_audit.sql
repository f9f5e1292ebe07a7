-- The audit: a chain of records, in one table a month. Records are appended, never changed. `begin_audit_append` gives
-- the turn to append; the program computes the hashes (rag_assets/pipeline/audit_chain.py documents the bytes).
CREATE TABLE audit_records (
  sequence bigint NOT NULL CHECK (sequence > 0),
  recorded_at timestamptz NOT NULL,
  occurred_at timestamptz NOT NULL,
  action text NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('allowed', 'denied', 'failed')),
  principal text NOT NULL,
  target text NOT NULL,
  request_id text NOT NULL,
  address text NOT NULL,
  -- json, not jsonb: it keeps the text as it is, and the hash is that of the text.
  details json NOT NULL,
  prev_hash bytea NOT NULL CHECK (length(prev_hash) = 32),
  row_hash bytea NOT NULL CHECK (length(row_hash) = 32)
) PARTITION BY RANGE (recorded_at);
-- The first index finds the last record and a time, the second the records of a principal, newest first.
CREATE INDEX audit_records_recorded_at ON audit_records (recorded_at, sequence);
CREATE INDEX audit_records_principal ON audit_records (principal, sequence);
COMMENT ON TABLE audit_records IS 'The audit: who did what, as a chain in which each record holds the hash of the one before.';
COMMENT ON COLUMN audit_records.sequence IS 'The place in the chain, from 1, without gaps.';
COMMENT ON COLUMN audit_records.recorded_at IS 'When it was appended; never before the record before.';
COMMENT ON COLUMN audit_records.occurred_at IS 'When it happened.';
COMMENT ON COLUMN audit_records.action IS 'SUBJECT.VERB, such as user.create, or search.';
COMMENT ON COLUMN audit_records.outcome IS 'allowed, denied or failed.';
COMMENT ON COLUMN audit_records.principal IS 'user:UUID, key:ID, owner (the command line) or anonymous.';
COMMENT ON COLUMN audit_records.target IS 'KIND:ID of what it was done to; empty: nothing in particular.';
COMMENT ON COLUMN audit_records.request_id IS 'The HTTP request; empty: none.';
COMMENT ON COLUMN audit_records.address IS 'The address of the client; empty: none.';
COMMENT ON COLUMN audit_records.details IS 'The rest, without texts of documents, keys and tokens.';
COMMENT ON COLUMN audit_records.prev_hash IS 'row_hash of the record before; zeros in the first one.';
COMMENT ON COLUMN audit_records.row_hash IS 'SHA-256 of prev_hash and of all other columns.';

CREATE FUNCTION rag_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'The audit is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_records
  FOR EACH STATEMENT EXECUTE FUNCTION rag_audit_is_append_only();
REVOKE UPDATE, DELETE, TRUNCATE ON audit_records FROM PUBLIC, CURRENT_USER;

-- Makes the partition of a month (in UTC), if there is none. The caller has the turn to append.
CREATE FUNCTION create_audit_month(day timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  lower timestamptz := date_trunc('month', day AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
  upper timestamptz := (date_trunc('month', day AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
  month text := 'audit_records_' || to_char(day AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
  IF to_regclass(month) IS NULL THEN
    -- Not PARTITION OF: that would wait for all readers of the other months, and they for it.
    EXECUTE format('CREATE TABLE %I (LIKE audit_records INCLUDING CONSTRAINTS INCLUDING COMMENTS,
                      PRIMARY KEY (sequence))', month);
    EXECUTE format('CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
                      FOR EACH STATEMENT EXECUTE FUNCTION rag_audit_is_append_only()', month);
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %I FROM PUBLIC, CURRENT_USER', month);
    EXECUTE format('ALTER TABLE audit_records ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', month, lower, upper);
  END IF;
  RETURN month;
END $$;

-- Waits for the turn to append, which lasts until the transaction ends. Returns the last record's place and hash, and
-- the time of the new records. A statement by itself, not a part of a query: each statement of the function sees what
-- was committed before it.
CREATE FUNCTION begin_audit_append(OUT sequence bigint, OUT row_hash bytea, OUT recorded_at text)
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  moment timestamptz;
  month timestamptz := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'The audit is written in transactions of the isolation level read committed, found %',
      current_setting('transaction_isolation');
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('rag-assets audit', 0));
  -- What is audited is durable before it is acknowledged, whatever the server's default.
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  -- First among the records of this month and later ones: with years of months, all of them cost milliseconds.
  SELECT r.sequence, r.row_hash, r.recorded_at INTO sequence, row_hash, moment
    FROM audit_records r WHERE r.recorded_at >= month ORDER BY r.recorded_at DESC, r.sequence DESC LIMIT 1;
  IF sequence IS NULL THEN
    SELECT r.sequence, r.row_hash, r.recorded_at INTO sequence, row_hash, moment
      FROM audit_records r ORDER BY r.recorded_at DESC, r.sequence DESC LIMIT 1;
  END IF;
  sequence := coalesce(sequence, 0);
  row_hash := coalesce(row_hash, decode(repeat('00', 32), 'hex'));
  -- A clock that was set back must not put records into an earlier month.
  moment := greatest(clock_timestamp(), moment);
  PERFORM create_audit_month(moment);
  recorded_at := to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
END $$;
REVOKE EXECUTE ON FUNCTION create_audit_month FROM PUBLIC;

-- With the rights of its owner, so that a role that may only read and insert can append in a new month: such a function
-- looks names up in one schema, and in no temporary one before it.
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION begin_audit_append SET search_path = %I, pg_temp', current_schema());
END $$;

SELECT create_audit_month(now() + n * interval '1 month') FROM generate_series(0, 2) AS n;
