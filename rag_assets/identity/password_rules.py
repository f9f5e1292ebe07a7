"""Rules of new passwords, after NIST SP 800-63B: long, not the user's own name, and no rule on kinds of characters.

Passwords are compared in NFKC: keyboards write the same letter in several ways, a Japanese one also in full width.
"""

from __future__ import annotations

import unicodedata

#: Characters of a new password, at the least; bytes of any password, at most: hashing must not be made expensive.
SHORTEST, MAX_BYTES = 12, 1024
#: Different characters of a new password, at the least: it is not one key pressed for long.
DIFFERENT = 5


def normalized(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def is_too_long(password: str) -> bool:
    # A password is shorter after NFKC, or up to 18 times as long.
    return len(password) > MAX_BYTES or max(
        len(text.encode("utf-8", "surrogatepass")) for text in (password, normalized(password))
    ) > MAX_BYTES  # fmt: skip


def password_problems(password: str, *, email: str, username: str) -> list[str]:
    """Return everything that is wrong with a new password of this user. Contains no part of the password."""
    if is_too_long(password):
        return [f"password: expected at most {MAX_BYTES:,} bytes"]
    text = normalized(password)
    problems = []
    if len(text) < SHORTEST:
        problems.append(f"password: expected at least {SHORTEST} characters, found {len(text)}")
    elif len(set(text)) < DIFFERENT:
        problems.append(f"password: expected at least {DIFFERENT} different characters")
    names = (email, email.partition("@")[0], username)
    if text.casefold() in {normalized(name).casefold() for name in names}:
        problems.append("password: expected something else than the username or the email address")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        problems.append("password: expected no control characters")
    return problems
