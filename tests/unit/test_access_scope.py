"""The scope itself: it intersects with filters, and it is a set of names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters

OWNER = AccessScope.owner()
NAMES = st.frozensets(st.sampled_from(["north", "south", "vault"]))


@given(NAMES, NAMES)
def test_a_filter_and_a_scope_intersect(names: frozenset[str], sources: frozenset[str]) -> None:
    limits = AccessScope("a reader", sources).restrict(Filters(source=tuple(names)))
    allowed = sources & names if names else sources
    # No condition would be every source.
    assert limits is None if not allowed else set(limits.source) == allowed  # pyright: ignore[reportOptionalMemberAccess]
    assert OWNER.restrict(Filters(source=tuple(names))) == Filters(source=tuple(names))


def test_a_scope_of_one_name_is_not_a_set_of_letters() -> None:
    with pytest.raises(TypeError, match="expected a frozenset or None, found 'north'"):
        AccessScope("a reader", "north")  # pyright: ignore[reportArgumentType]
