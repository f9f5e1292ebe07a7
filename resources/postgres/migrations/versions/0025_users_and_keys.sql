-- Accounts own sources. A grant on an account is one on all sources of the account.
CREATE TABLE accounts (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name varchar(100) NOT NULL UNIQUE CHECK (name !~ '/'),
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE accounts IS 'The tenants: each owns sources and chat bots.';
COMMENT ON COLUMN accounts.id IS 'Never used again.';
COMMENT ON COLUMN accounts.name IS 'Shown, and used in requests.';
COMMENT ON COLUMN accounts.created_at IS 'When it was created.';

ALTER TABLE sources ADD COLUMN account_id uuid REFERENCES accounts;
CREATE INDEX sources_account ON sources (account_id) WHERE account_id IS NOT NULL;
COMMENT ON COLUMN sources.account_id IS 'The account that owns the source; NULL: only those who may see everything, or have a grant on the source, see it.';

CREATE TABLE users (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  email varchar(255) NOT NULL UNIQUE CHECK (email ~ '^[^@\s]+@[^@\s]+\.[^@\s]+$' AND email = lower(email)),
  username varchar(100) NOT NULL UNIQUE CHECK (username ~ '^\S(.*\S)?$'),
  password_hash varchar(255),
  full_name varchar(255),
  avatar_url text,
  timezone varchar(50) NOT NULL DEFAULT 'Asia/Tokyo',
  role varchar(50) NOT NULL DEFAULT 'viewer' CHECK (role IN ('viewer', 'editor', 'admin', 'super_admin')),
  permissions text[] NOT NULL DEFAULT '{}',
  is_active boolean NOT NULL DEFAULT true,
  is_verified boolean NOT NULL DEFAULT false,
  failed_login_attempts integer NOT NULL DEFAULT 0 CHECK (failed_login_attempts >= 0),
  locked_until timestamptz,
  last_login_at timestamptz,
  password_changed_at timestamptz,
  oidc_subject text UNIQUE,
  version bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX users_role ON users (role);
CREATE INDEX users_is_active ON users (is_active);
CREATE INDEX users_permissions ON users USING gin (permissions);
COMMENT ON TABLE users IS 'People and programs that use the service.';
COMMENT ON COLUMN users.id IS 'Never used again.';
COMMENT ON COLUMN users.email IS 'In lower case.';
COMMENT ON COLUMN users.username IS 'Shown, and used on the command line.';
COMMENT ON COLUMN users.password_hash IS 'argon2id, in its standard text form; NULL: cannot log in.';
COMMENT ON COLUMN users.full_name IS 'Shown only.';
COMMENT ON COLUMN users.avatar_url IS 'Shown only.';
COMMENT ON COLUMN users.timezone IS 'The zone in which times are shown.';
COMMENT ON COLUMN users.role IS 'viewer, editor, admin or super_admin: each has the permissions of the ones before it.';
COMMENT ON COLUMN users.permissions IS 'Single permissions beyond those of the role.';
COMMENT ON COLUMN users.is_active IS 'false: locked by an administrator; keys, tokens and passwords are refused.';
COMMENT ON COLUMN users.is_verified IS 'Only verified users log in.';
COMMENT ON COLUMN users.failed_login_attempts IS 'Attempts to log in since the last right one, or in the last hours.';
COMMENT ON COLUMN users.locked_until IS 'Until then passwords are not tried; keys and refresh tokens work.';
COMMENT ON COLUMN users.last_login_at IS 'The last login with a password.';
COMMENT ON COLUMN users.password_changed_at IS 'When the password was last changed; NULL: never had one.';
COMMENT ON COLUMN users.oidc_subject IS 'The issuer and the subject of the user at the login provider, from its first login there on.';
COMMENT ON COLUMN users.version IS 'Raised when the role, the permissions, the lock, the password or a grant changes: older access tokens are refused.';
COMMENT ON COLUMN users.created_at IS 'When the user was added.';
COMMENT ON COLUMN users.updated_at IS 'When the row last changed.';

CREATE FUNCTION rag_user_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := now();
  NEW.version := OLD.version + (
    (OLD.role, OLD.permissions, OLD.is_active, OLD.is_verified, OLD.password_hash)
    IS DISTINCT FROM (NEW.role, NEW.permissions, NEW.is_active, NEW.is_verified, NEW.password_hash)
  )::int + greatest(NEW.version - OLD.version, 0);
  RETURN NEW;
END $$;
CREATE TRIGGER users_changed BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION rag_user_changed();

CREATE TABLE access_grants (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  account_id uuid REFERENCES accounts ON DELETE CASCADE,
  chat_bot varchar(100),
  source_id uuid REFERENCES sources ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((account_id IS NULL) <> (source_id IS NULL)),
  CHECK (chat_bot IS NULL OR account_id IS NOT NULL),
  UNIQUE NULLS NOT DISTINCT (user_id, account_id, chat_bot, source_id)
);
COMMENT ON TABLE access_grants IS 'What users see: accounts, single chat bots of an account, single sources. A super_admin sees everything.';
COMMENT ON COLUMN access_grants.id IS 'Never used again.';
COMMENT ON COLUMN access_grants.user_id IS 'The user.';
COMMENT ON COLUMN access_grants.account_id IS 'The account, with all its sources and chat bots unless chat_bot names one.';
COMMENT ON COLUMN access_grants.chat_bot IS 'The only chat bot of the account that is granted; NULL: the whole account.';
COMMENT ON COLUMN access_grants.source_id IS 'The source.';
COMMENT ON COLUMN access_grants.created_at IS 'When it was granted.';

CREATE TABLE api_keys (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  key_hash varchar(255) NOT NULL UNIQUE,
  key_prefix varchar(20) NOT NULL UNIQUE,
  name varchar(255) NOT NULL,
  description text,
  permissions text[] NOT NULL,
  networks cidr[] NOT NULL DEFAULT '{}',
  rate_limit_per_minute integer NOT NULL DEFAULT 100 CHECK (rate_limit_per_minute > 0),
  usage_count bigint NOT NULL DEFAULT 0,
  last_used_at timestamptz,
  is_active boolean NOT NULL DEFAULT true,
  expires_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_user ON api_keys (user_id);
CREATE INDEX api_keys_is_active ON api_keys (is_active);
CREATE INDEX api_keys_expires ON api_keys (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE api_keys IS 'Keys of users for programs. A key is shown once, when it is made.';
COMMENT ON COLUMN api_keys.id IS 'Names the key in requests about it.';
COMMENT ON COLUMN api_keys.user_id IS 'The owner.';
COMMENT ON COLUMN api_keys.key_hash IS 'HMAC-SHA-256 of the secret part under the deployment''s pepper.';
COMMENT ON COLUMN api_keys.key_prefix IS 'Everything before the secret: it finds the key, and is shown.';
COMMENT ON COLUMN api_keys.name IS 'A label. Several live keys may have one name, for rotation.';
COMMENT ON COLUMN api_keys.description IS 'Shown only.';
COMMENT ON COLUMN api_keys.permissions IS 'The key''s permissions; only those count that its owner has at the time of use.';
COMMENT ON COLUMN api_keys.networks IS 'The addresses that may use it; empty: all.';
COMMENT ON COLUMN api_keys.rate_limit_per_minute IS 'Requests a minute, weighted by their cost.';
COMMENT ON COLUMN api_keys.usage_count IS 'Requests with it; written in batches.';
COMMENT ON COLUMN api_keys.last_used_at IS 'The last request with it; written in batches.';
COMMENT ON COLUMN api_keys.is_active IS 'false: revoked.';
COMMENT ON COLUMN api_keys.expires_at IS 'From then on it is refused; NULL: never.';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN api_keys.updated_at IS 'When the row last changed.';

-- What each user may do and see: authentication reads one row of it.
CREATE VIEW user_access AS
  SELECT u.id AS user_id, u.username, u.role, u.permissions, u.is_active, u.version,
    ARRAY(SELECT a.name FROM access_grants g JOIN accounts a ON a.id = g.account_id
          WHERE g.user_id = u.id AND g.chat_bot IS NULL ORDER BY 1) AS accounts,
    ARRAY(SELECT a.name || '/' || g.chat_bot FROM access_grants g JOIN accounts a ON a.id = g.account_id
          WHERE g.user_id = u.id AND g.chat_bot IS NOT NULL ORDER BY 1) AS chat_bots,
    ARRAY(SELECT s.name FROM access_grants g JOIN sources s ON s.id = g.source_id
          WHERE g.user_id = u.id ORDER BY 1) AS granted_sources,
    ARRAY(SELECT s.name FROM access_grants g JOIN sources s ON s.id = g.source_id WHERE g.user_id = u.id
          UNION SELECT s.name FROM access_grants g JOIN sources s ON s.account_id = g.account_id
          WHERE g.user_id = u.id AND g.chat_bot IS NULL) AS sources
  FROM users u;
COMMENT ON VIEW user_access IS 'What each user sees, by name: granted accounts, chat bots and sources, and in column sources those of the accounts too.';
COMMENT ON COLUMN user_access.user_id IS 'The user.';
COMMENT ON COLUMN user_access.username IS 'As in users.';
COMMENT ON COLUMN user_access.role IS 'As in users.';
COMMENT ON COLUMN user_access.permissions IS 'As in users.';
COMMENT ON COLUMN user_access.is_active IS 'As in users.';
COMMENT ON COLUMN user_access.version IS 'As in users.';
COMMENT ON COLUMN user_access.accounts IS 'The accounts that were granted as a whole.';
COMMENT ON COLUMN user_access.chat_bots IS 'The single chat bots that were granted, as ACCOUNT/NAME.';
COMMENT ON COLUMN user_access.granted_sources IS 'The sources that were granted by name.';
COMMENT ON COLUMN user_access.sources IS 'All sources that the user sees, if it is no super_admin.';

-- Any change of a grant acts on tokens and caches as a change of the user does.
CREATE FUNCTION rag_grant_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE users SET version = version + 1
    WHERE id IN (coalesce(NEW.user_id, OLD.user_id), coalesce(OLD.user_id, NEW.user_id));
  RETURN NULL;
END $$;
CREATE TRIGGER access_grants_changed AFTER INSERT OR UPDATE OR DELETE ON access_grants
  FOR EACH ROW EXECUTE FUNCTION rag_grant_changed();

CREATE TABLE sessions (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz,
  revoked_because varchar(50),
  address inet,
  user_agent varchar(255)
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expires ON sessions (expires_at);
COMMENT ON TABLE sessions IS 'Logins: each is a family of refresh tokens.';
COMMENT ON COLUMN sessions.id IS 'The family.';
COMMENT ON COLUMN sessions.user_id IS 'Who logged in.';
COMMENT ON COLUMN sessions.created_at IS 'The login.';
COMMENT ON COLUMN sessions.last_used_at IS 'The last refresh.';
COMMENT ON COLUMN sessions.expires_at IS 'From then on a new login is needed.';
COMMENT ON COLUMN sessions.revoked_at IS 'When it was ended; NULL: it lives.';
COMMENT ON COLUMN sessions.revoked_because IS 'Such as logout, reuse or password.';
COMMENT ON COLUMN sessions.address IS 'The address of the login.';
COMMENT ON COLUMN sessions.user_agent IS 'The program of the login, as it named itself.';

CREATE TABLE refresh_tokens (
  token_hash bytea PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  used_at timestamptz,
  successor_encrypted text
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
COMMENT ON TABLE refresh_tokens IS 'The refresh tokens of each session; all but the newest are used up.';
COMMENT ON COLUMN refresh_tokens.token_hash IS 'SHA-256 of the token.';
COMMENT ON COLUMN refresh_tokens.session_id IS 'The family.';
COMMENT ON COLUMN refresh_tokens.created_at IS 'When it was issued.';
COMMENT ON COLUMN refresh_tokens.used_at IS 'When it was exchanged. A use ten seconds later ends the session.';
COMMENT ON COLUMN refresh_tokens.successor_encrypted IS 'The token that it was exchanged for, which only it decrypts, until that one is used: the answer may have been lost.';

CREATE TABLE one_time_tokens (
  token_hash bytea PRIMARY KEY,
  purpose varchar(20) NOT NULL CHECK (purpose IN ('init', 'password')),
  user_id uuid REFERENCES users ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  used_at timestamptz
);
COMMENT ON TABLE one_time_tokens IS 'Tokens that make the first super_admin, or set a password, once.';
COMMENT ON COLUMN one_time_tokens.token_hash IS 'SHA-256 of the token.';
COMMENT ON COLUMN one_time_tokens.purpose IS 'init: make the first super_admin; password: set the password of the user.';
COMMENT ON COLUMN one_time_tokens.user_id IS 'The user; NULL for init.';
COMMENT ON COLUMN one_time_tokens.created_at IS 'When it was printed.';
COMMENT ON COLUMN one_time_tokens.expires_at IS 'From then on it is refused.';
COMMENT ON COLUMN one_time_tokens.used_at IS 'When it was redeemed; NULL: not yet.';

CREATE TABLE login_failures (
  subject varchar(80) PRIMARY KEY,
  failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
  last_failure_at timestamptz NOT NULL DEFAULT now(),
  blocked_until timestamptz NOT NULL
);
CREATE INDEX login_failures_last ON login_failures (last_failure_at);
COMMENT ON TABLE login_failures IS 'Attempts to log in that were not right, by network and by the name of no user, for the growing delay.';
COMMENT ON COLUMN login_failures.subject IS 'network:ADDRESS (an IPv4 address or an IPv6 /64), or name:DIGEST.';
COMMENT ON COLUMN login_failures.failures IS 'The attempts in the last hours.';
COMMENT ON COLUMN login_failures.last_failure_at IS 'The last of them.';
COMMENT ON COLUMN login_failures.blocked_until IS 'Until then no password of this subject is tried.';

-- The number of this attempt: 1 if the last one is long ago.
CREATE FUNCTION rag_login_attempts(before integer, last timestamptz, forgotten interval)
RETURNS integer LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN last < clock_timestamp() - forgotten THEN 1 ELSE before + 1 END
$$;

-- None up to `free` attempts, then 1 s, doubled by each further one, at most 15 minutes.
CREATE FUNCTION rag_login_delay(attempts integer, free integer) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
  SELECT make_interval(secs => CASE WHEN attempts <= free THEN 0
    ELSE least(900, power(2, least(attempts - free - 1, 10))) END)
$$;

CREATE TABLE signing_keys (
  kid varchar(43) PRIMARY KEY,
  public_key bytea NOT NULL,
  private_key_encrypted text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  signs_until timestamptz NOT NULL,
  verifies_until timestamptz NOT NULL
);
COMMENT ON TABLE signing_keys IS 'The ring of Ed25519 keys that sign access tokens.';
COMMENT ON COLUMN signing_keys.kid IS 'The thumbprint of the key (RFC 7638).';
COMMENT ON COLUMN signing_keys.public_key IS 'The 32 bytes of the public key.';
COMMENT ON COLUMN signing_keys.private_key_encrypted IS 'The private key, encrypted with the deployment''s secret.';
COMMENT ON COLUMN signing_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN signing_keys.signs_until IS 'From then on a newer key signs.';
COMMENT ON COLUMN signing_keys.verifies_until IS 'From then on its tokens are refused.';

CREATE TABLE deployment_secrets (
  purpose varchar(50) PRIMARY KEY,
  check_value varchar(64) NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE deployment_secrets IS 'How a process recognises that it has the secret with which keys and tokens were made.';
COMMENT ON COLUMN deployment_secrets.purpose IS 'pepper.';
COMMENT ON COLUMN deployment_secrets.check_value IS 'HMAC-SHA-256 of a constant under the secret.';
COMMENT ON COLUMN deployment_secrets.created_at IS 'When the secret was first used.';
