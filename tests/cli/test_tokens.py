"""`rag tokens`: the ring of signing keys and the sessions of a user."""

from __future__ import annotations

from resources.postgres.connection import Postgres
from tests.support.rag import Rag


def test_keys_are_rotated_and_sessions_ended(rag: Rag, postgres_url: str) -> None:
    kids = [rag.json("tokens", "rotate", *options)["kid"] for options in (["--revoke"], [])]
    shown = rag.ok("tokens", "list")
    signing, verifying = (
        next(line for line in shown.splitlines() if kid[:12] in line) for kid in kids[::-1]
    )
    assert "signs" in signing
    assert "verifies" in verifying

    with Postgres(postgres_url).connect(autocommit=True) as connection:
        connection.execute(
            """WITH ann AS (INSERT INTO users (email, username) VALUES ('ann@tokens.example', 'ann of tokens')
                 RETURNING id)
               INSERT INTO sessions (user_id, expires_at, user_agent)
               SELECT id, now() + make_interval(days => days), 'a browser' FROM ann, unnest(ARRAY[1, 2, -1]) AS days"""
        )
        listed = rag.json("tokens", "sessions", "ann@tokens.example")["sessions"]
        assert [each["user_agent"] for each in listed] == ["a browser"] * 2
        assert rag.json("tokens", "end", "ann of tokens")["ended_sessions"] == 3
        connection.execute("DELETE FROM users WHERE username = 'ann of tokens'")
