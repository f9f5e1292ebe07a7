"""Texts for documents: short ones in three languages, long ones, and pages of random words."""

from __future__ import annotations

import random

ENGLISH = "# Opening hours\n\nThe observatory opens at nine in the morning and closes when the stars come out.\n"
JAPANESE = "# 開館時間\n\n天文台は午前九時に開館し、夜十時に閉館します。月曜日は休館日です。\n"
PERSIAN = (
    "# ساعات کار\n\nرصدخانه هر روز از ساعت نه صبح تا ده شب باز است و روزهای دوشنبه تعطیل است.\n"
)


def long_text(seed: str, paragraphs: int = 30) -> str:
    """Paragraphs of 300 to 400 characters that differ in their numbers and in the seed."""
    return f"# {seed}\n\n" + "\n\n".join(
        f"Paragraph {n} of {seed} tells of the {n * 7} instruments that stand in hall {n} of the old {seed} building, "
        f"where visitor group {n * 13} gathered on day {n * 17} of the year." * 2
        for n in range(paragraphs)
    )


def page(number: int) -> str:
    """About fifty words made of random syllables; two pages have few words in common."""
    random_state = random.Random(number)

    def word() -> str:
        syllables = ("ka", "lo", "mi", "ru", "te", "so", "ni", "va", "pe", "du", "shi", "gor")
        return "".join(random_state.choice(syllables) for _ in range(random_state.randint(2, 4)))

    sentences = [
        " ".join([word().capitalize(), *(word() for _ in range(9))]) + "." for _ in range(5)
    ]
    return f"# Page {number}\n\n" + " ".join(sentences) + "\n"
