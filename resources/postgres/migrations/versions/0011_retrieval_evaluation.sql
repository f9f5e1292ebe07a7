-- Queries to a source, and their relevant answers. `known_items`: drawn from its own chunks.
CREATE TABLE retrieval_sets (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  source_id uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
  name varchar(100) NOT NULL UNIQUE,
  known_items boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX retrieval_sets_source ON retrieval_sets (source_id);
CREATE TABLE retrieval_queries (
  set_id uuid NOT NULL REFERENCES retrieval_sets ON DELETE CASCADE,
  query_id text NOT NULL,
  text text NOT NULL,
  PRIMARY KEY (set_id, query_id)
);
-- By the document's key and, for a passage, its text: both stay valid when the chunks change.
CREATE TABLE retrieval_judgements (
  set_id uuid NOT NULL,
  query_id text NOT NULL,
  position integer NOT NULL,
  document_key text NOT NULL,
  passage text,
  score integer NOT NULL CHECK (score > 0),
  PRIMARY KEY (set_id, query_id, position),
  FOREIGN KEY (set_id, query_id) REFERENCES retrieval_queries ON DELETE CASCADE
);

CREATE TABLE retrieval_evaluations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  set_id uuid NOT NULL REFERENCES retrieval_sets ON DELETE CASCADE,
  run_id text NOT NULL,
  model_fingerprint varchar(64) NOT NULL,
  measured_at timestamptz NOT NULL DEFAULT now(),
  queries integer NOT NULL,
  outdated integer NOT NULL,               -- queries whose answers the source no longer has: not counted
  accepted_at timestamptz                  -- the one that was accepted last is the baseline of later ones
);
CREATE INDEX retrieval_evaluations_set ON retrieval_evaluations (set_id, id);
-- `lower`, `upper`: bootstrap confidence interval (95 %) of a mean over queries.
CREATE TABLE retrieval_measures (
  evaluation_id bigint NOT NULL REFERENCES retrieval_evaluations ON DELETE CASCADE,
  mode varchar(10) NOT NULL,
  measure text NOT NULL,
  value double precision NOT NULL,
  lower double precision,
  upper double precision,
  PRIMARY KEY (evaluation_id, mode, measure)
);
-- Results by query, in one row a mode, for paired comparisons. `ranks`: of the first relevant result, 0: none.
CREATE TABLE retrieval_results (
  evaluation_id bigint NOT NULL REFERENCES retrieval_evaluations ON DELETE CASCADE,
  mode varchar(10) NOT NULL,
  query_ids text[] NOT NULL,
  ranks integer[] NOT NULL,
  ndcg real[] NOT NULL,
  PRIMARY KEY (evaluation_id, mode)
);
