-- `terms`: ascending term numbers, and the number of texts with each one, compressed (see pipeline/term_statistics.py).
CREATE TABLE term_statistics (
  model_fingerprint text NOT NULL,
  source_id uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
  texts bigint NOT NULL,
  terms bytea NOT NULL,
  PRIMARY KEY (model_fingerprint, source_id)
);
