-- Values that would stop more than their own row: plain SQL cannot write them. NOT VALID: existing rows are not checked
-- until they change.

-- A source's name is its partition key: one that cannot be a key would end every tick of the sensors. The same expression
-- is in resources/partition_keys.py.
ALTER TABLE sources ADD CONSTRAINT sources_name_is_a_key CHECK (name ~
  '^[0-9A-Za-z_\u00aa-\u1fff\u2070-\u2fff\u3001-\ud7ff\uf900-\ufefe\uff00-\uffef\U00010000-\U0010ffff]([0-9A-Za-z_\u00aa-\u1fff\u2070-\u2fff\u3001-\ud7ff\uf900-\ufefe\uff00-\uffef\U00010000-\U0010ffff. -]{0,98}[0-9A-Za-z_\u00aa-\u1fff\u2070-\u2fff\u3001-\ud7ff\uf900-\ufefe\uff00-\uffef\U00010000-\U0010ffff])?$'
) NOT VALID;

-- The fingerprint of a row contains the time in seconds at which its document was created.
ALTER TABLE documents ADD CONSTRAINT documents_created_at_is_finite CHECK (isfinite(created_at)) NOT VALID;
