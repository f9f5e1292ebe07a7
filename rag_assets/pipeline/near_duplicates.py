"""MinHash signatures: the similarity of two texts, estimated from 128 numbers of each.

Signatures are computed here; the documents that share enough of them are found in PostgreSQL. Near-duplicates are
never dropped.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  # it has no stubs

#: Rows of a signature; the migration cuts them into 16 bands of 8.
PERMUTATIONS = 128
#: Estimated Jaccard similarity from which a document is a near-duplicate. The standard error there is 0.035.
SIMILAR = 0.8
#: Bytes of UTF-8: six Latin letters, three Arabic or Cyrillic ones, two of Han, kana or hangul. Of copies with 5 % of
#: their words changed, 94 to 100 % are found in English, Arabic, Persian and Korean, 80 % in Chinese and Japanese; with
#: 2 % changed, all. Shingles of five characters find few Japanese copies (similarity 0.75), of three words few of any.
SHINGLE = 6
#: A shorter text has no signature: one changed word is a tenth of it.
MIN_SHINGLES = 200
#: Maximum characters that are signed, from the beginning of a text: at most 25 MB of memory.
MAX_CHARS = 1_000_000
_SEED = 42
#: Names everything that determines signatures: those of another name are computed again.
ALGORITHM = f"1.{RMinHash.ALGORITHM_VERSION}"


def shingles(text: str) -> NDArray[np.uint64]:
    """Return every run of six bytes of the text as numbers, after normalising case, width and white space."""
    plain = " ".join(unicodedata.normalize("NFKC", text[:MAX_CHARS]).casefold().split())
    data = plain.encode("utf-8", "surrogatepass")
    count = max(0, len(data) - SHINGLE + 1)
    # Windows of eight bytes start at every byte and keep six of them; the last ones reach into the padding.
    windows = np.ndarray(count, "<u8", data + bytes(8 - SHINGLE), strides=(1,))
    return windows & np.uint64((1 << 8 * SHINGLE) - 1)


def signature(text: str) -> list[int] | None:
    """Return the low 16 bits of 128 minima, signed like PostgreSQL's smallint; None if the text is too short.

    Texts of similarity J share one of 16 bands of 8 rows with probability 1 − (1 − J⁸)¹⁶, a curve that is steepest near
    (1/16)^(1/8) = 0.71, below SIMILAR, so that few pairs are lost before they are compared: 5 % at 0.8, 0.6 % at 0.85.
    At 0.3, the highest similarity of unrelated articles, it is 0.1 %, and the comparison rejects those pairs.
    """
    hashes = shingles(text)
    if len(hashes) < MIN_SHINGLES:
        return None
    rows = RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, [0, len(hashes)], PERMUTATIONS, _SEED
    ).to_rows()
    return np.array(rows[0], np.uint32).astype(np.uint16).view(np.int16).tolist()
