"""Tables of users, keys, sessions and the audit."""
