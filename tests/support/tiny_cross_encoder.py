"""A cross-encoder of the shape of MiniLM with random weights, small enough to be made in a test.

Its scores have no meaning; equal pairs have equal scores, different pairs different ones.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.tiny_bge_m3 import CORPUS

os.environ["HF_HUB_OFFLINE"] = "1"

#: Maximum tokens of a pair.
MAX_LENGTH = 64


def make_tiny_cross_encoder(folder: Path, labels: int = 1) -> Path:
    """Write the model and its tokenizer to `folder` and return it: 60 KB."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    letters = sorted({letter for text in CORPUS for letter in text.lower() if letter.isalnum()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    BertTokenizer(vocab=vocabulary, model_max_length=MAX_LENGTH).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20240203)
        config = BertConfig(
            vocab_size=len(pieces),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=MAX_LENGTH,
            num_labels=labels,
            # Wide, so that attention mixes enough for pairs to differ.
            initializer_range=0.5,
        )
        BertForSequenceClassification(config).save_pretrained(folder)
    return folder
