"""A BGE-M3 of the real shape with random weights, small enough to be created in a test.

Hidden size 1024 and both heads as in the real model, so that all other code sees real dimensions; one layer, a narrow
feed-forward part and at most 510 tokens limit it to 31 MB. It needs no model hub: importing this module sets
HF_HUB_OFFLINE before any Hugging Face library reads it. Its vectors have no meaning; equal texts have equal vectors,
different texts have different ones.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

#: Maximum tokens of a text: the position table minus the two positions that XLM-RoBERTa reserves.
MAX_LENGTH = 510

#: Texts from which the tokenizer learns its pieces. Other characters become <unk>, like rare ones in the real model.
CORPUS = (
    "A backup is taken every night and kept for thirty days; restoring one needs the vault's key.",
    "The quick brown fox jumps over the lazy dog while documents are indexed in the background.",
    "Die Sicherung läuft jede Nacht; größere Änderungen müssen vorher geprüft werden.",
    "Les données sont chiffrées au repos et l'accès est journalisé à chaque requête.",
    "El índice se actualiza cada mañana y los documentos borrados desaparecen enseguida.",
    "Резервная копия создаётся каждую ночь и хранится тридцать дней.",
    "データベースは毎晩バックアップされ、三十日間保存されます。",
    "数据库每天晚上备份一次，保存三十天。",
    "يتم نسخ قاعدة البيانات احتياطيا كل ليلة وتحفظ ثلاثين يوما.",
    "def upsert(rows: list[dict]) -> int: return sum(1 for row in rows if row['id'] != 0)",
)


@dataclass(frozen=True)
class Shape:
    """The parts of the shape that may differ from the real model; `vocabulary` 0 is the tokenizer's own, about 800."""

    layers: int = 1
    feed_forward: int = 128
    vocabulary: int = 0
    max_length: int = MAX_LENGTH


TINY = Shape()
#: The shape of the real model: 24 layers, 2.3 GB in fp32.
REAL = Shape(24, 4096, 250_002, 8192)


def _vocabulary(texts: Sequence[str], size: int = 800) -> list[tuple[str, float]]:
    """Return pieces with their log frequencies: the texts' characters, then their most frequent substrings.

    Counted here, because the library's own trainer returns another vocabulary each time, and the model must be
    reproducible.
    """
    words = [f"▁{word}" for text in texts for word in text.split()]
    counts = Counter(w[i:j] for w in words for i in range(len(w)) for j in range(i + 1, len(w) + 1))
    pieces = sorted(counts, key=lambda piece: (len(piece) > 1, -counts[piece], piece))[:size]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return special + [(piece, math.log(counts[piece] / counts.total())) for piece in pieces]


def make_tiny_bge_m3(folder: Path, shape: Shape = TINY) -> Path:
    """Write model, tokenizer and both heads to `folder` and return it. The bytes are always the same.

    TINY has 31 MB and takes 0.2 s if torch and transformers are loaded, else 5 s.
    """
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizer

    tokenizer = XLMRobertaTokenizer(vocab=_vocabulary(CORPUS), model_max_length=shape.max_length)
    tokenizer.save_pretrained(folder)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20240203)
        config = XLMRobertaConfig(
            vocab_size=shape.vocabulary or len(tokenizer),
            hidden_size=1024,
            num_hidden_layers=shape.layers,
            num_attention_heads=16,
            intermediate_size=shape.feed_forward,
            max_position_embeddings=shape.max_length + 2,
            type_vocab_size=1,
            # Three times the usual spread, so that attention mixes enough for texts to differ in their first token.
            initializer_range=0.06,
        )
        XLMRobertaModel(config).save_pretrained(folder)
        torch.save(torch.nn.Linear(1024, 1024).state_dict(), folder / "colbert_linear.pt")
        torch.save(torch.nn.Linear(1024, 1).state_dict(), folder / "sparse_linear.pt")
    return folder
