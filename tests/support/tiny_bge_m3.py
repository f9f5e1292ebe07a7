"""A BGE-M3 of the real shape with random weights, small enough to be made in a test.

Hidden size 1024 and both heads as in the real model, so that everything downstream sees real
dimensions; one layer, a narrow feed-forward part and 510 tokens at most keep it at 31 MB. No model
hub is needed, and none is asked: importing this module sets HF_HUB_OFFLINE before any Hugging Face
library reads it. Its vectors carry no meaning; equal texts have equal vectors, different texts
differ.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

#: The longest text the tiny model takes, in tokens (its position table, less the two that
#: XLM-RoBERTa reserves).
MAX_LENGTH = 510

#: What the tokenizer learns its pieces from. Other characters become <unk>, as rare ones do in the
#: real model.
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
    """What differs from the real model's shape; `vocabulary` 0 is the tokenizer's own, about 800."""

    layers: int = 1
    feed_forward: int = 128
    vocabulary: int = 0
    max_length: int = MAX_LENGTH


TINY = Shape()
#: The real model's: 24 layers, 2.3 GB in fp32.
REAL = Shape(24, 4096, 250_002, 8192)


def _vocabulary(texts: Sequence[str], size: int = 800) -> list[tuple[str, float]]:
    """Pieces with their log frequencies: the texts' characters, then their commonest substrings.

    Counted here because the library's own trainer gives another vocabulary each time; the model
    must not differ between two runs.
    """
    words = [f"▁{word}" for text in texts for word in text.split()]
    counts = Counter(w[i:j] for w in words for i in range(len(w)) for j in range(i + 1, len(w) + 1))
    pieces = sorted(counts, key=lambda piece: (len(piece) > 1, -counts[piece], piece))[:size]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return special + [(piece, math.log(counts[piece] / counts.total())) for piece in pieces]


def make_tiny_bge_m3(folder: Path, shape: Shape = TINY) -> Path:
    """Writes model, tokenizer and both heads to `folder` and returns it: always the same bytes.

    Tiny, 31 MB; 0.2 s where torch and transformers are loaded already, 5 s where not.
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
            # Three times the usual spread: attention then mixes enough for texts to differ in their
            # first token.
            initializer_range=0.06,
        )
        XLMRobertaModel(config).save_pretrained(folder)
        torch.save(torch.nn.Linear(1024, 1024).state_dict(), folder / "colbert_linear.pt")
        torch.save(torch.nn.Linear(1024, 1).state_dict(), folder / "sparse_linear.pt")
    return folder
