"""MinHash signatures: how alike two texts are, told by 128 numbers of each.

A signature is made here; which documents share enough of theirs is a question to tables (`resources/postgres/
signatures.py`). Nothing is dropped for it.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  # it has no stubs

#: Rows of a signature; the migration cuts them into 16 bands of 8.
PERMUTATIONS = 128
#: Estimated Jaccard similarity from which a document is a near-duplicate. Its standard error there is 0.035.
SIMILAR = 0.8
#: Bytes of UTF-8: six Latin letters, three Arabic or Cyrillic ones, two of Han, kana or hangul. Found of copies with
#: 5 % of their words changed: 94 to 100 % in English, Arabic, Persian and Korean, 80 % in Chinese and Japanese; with
#: 2 %, all. Five characters of any script find few of the Japanese ones (similarity 0.75), three words few of any.
SHINGLE = 6
#: A shorter text has no signature: one changed word of it is a tenth.
MIN_SHINGLES = 200
#: Characters. Of a longer text the beginning is signed: 25 MB of memory at most.
MAX_CHARS = 1_000_000
_SEED = 42
#: Names what determines signatures: those of another name are made anew.
ALGORITHM = f"1.{RMinHash.ALGORITHM_VERSION}"


def shingles(text: str) -> NDArray[np.uint64]:
    """Every run of six bytes of the text, as numbers, without what case, width and white space make different."""
    plain = " ".join(unicodedata.normalize("NFKC", text[:MAX_CHARS]).casefold().split())
    data = plain.encode("utf-8", "surrogatepass")
    count = max(0, len(data) - SHINGLE + 1)
    # Eight bytes from each byte on, of which six are kept; the last windows reach into the padding.
    windows = np.ndarray(count, "<u8", data + bytes(8 - SHINGLE), strides=(1,))
    return windows & np.uint64((1 << 8 * SHINGLE) - 1)


def signature(text: str) -> list[int] | None:
    """The low 16 bits of 128 minima, signed as PostgreSQL's smallint is; None: the text is too short.

    Texts of similarity J share one of 16 bands of 8 rows with probability 1 − (1 − J⁸)¹⁶, a curve that is steepest near
    (1/16)^(1/8) = 0.71, below SIMILAR, so that few pairs are lost before they are compared: 5 % at 0.8, 0.6 % at 0.85.
    At 0.3, the most that unrelated articles have in common, it is 0.1 %, and the comparison refuses those.
    """
    found = shingles(text)
    if len(found) < MIN_SHINGLES:
        return None
    rows = RMinHash.digest_matrix_from_flat_token_hashes(
        found, [0, len(found)], PERMUTATIONS, _SEED
    ).to_rows()
    return np.array(rows[0], np.uint32).astype(np.uint16).view(np.int16).tolist()
