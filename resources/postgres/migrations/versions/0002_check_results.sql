-- The last result of each asset check of each source. A quick form has a row beside the full one that it samples for,
-- under the full one's name. A migration renames the rows of a renamed check.
CREATE TABLE check_results (
  source_id uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
  asset text NOT NULL,
  check_name text NOT NULL,
  form varchar(5) NOT NULL CHECK (form IN ('full', 'quick')),
  outcome varchar(12) NOT NULL CHECK (outcome IN ('passed', 'failed', 'undetermined')),
  sentence text NOT NULL,
  mend text NOT NULL DEFAULT '',           -- the command that fixes it
  finding text NOT NULL DEFAULT '',        -- a hash of the finding: another finding is another failure
  since timestamptz NOT NULL,              -- outcome and finding are the same since then
  checked_at timestamptz NOT NULL,         -- when the check began to look
  run_id text NOT NULL,
  repairs integer NOT NULL DEFAULT 0 CHECK (repairs >= 0),  -- that began since then and did not fix it
  repaired_at timestamptz,                 -- when the last of them began, or ended
  repair_run_id text,
  PRIMARY KEY (source_id, check_name, form)
);
CREATE INDEX check_results_to_do ON check_results (source_id) WHERE outcome <> 'passed';
