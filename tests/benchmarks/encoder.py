"""The BGE-M3 encoder beside stock FlagEmbedding: `python -m tests.benchmarks.encoder [--device cuda] [--json FILE]`.

One process, random weights of the real width and vocabulary, turns A B A B …; said are also the ratios of processor
time, which others' load disturbs less. Texts are 8 to `--max-length` tokens long, log-uniformly. On a CPU
`--layers 24`, the real depth, takes hours; few layers weigh the tokenizer and the copying more than 24 do.

With `--device cuda` also tokens/s and the share of the peak. Operations of a layer for a token that is one of n in its
text: 8d² for four projections, 4df for the feed-forward part, 4nd for attention's two products. That is the forward
third of 6N + 12LHQT in Chowdhery et al. 2022, "PaLM", appendix B. Padding is no work. The peak is the data sheet's for
dense bf16.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import psutil

from rag_assets.pipeline.vectors import Kind
from tests.benchmarks.claims import Measured
from tests.benchmarks.report import finish, parser, say
from tests.support.tiny_bge_m3 import CORPUS, REAL, Shape, make_tiny_bge_m3

SEED = 20240203
KINDS: tuple[Kind, ...] = ("dense", "sparse")
#: Texts of a call, where calls are small, and how many calls.
SMALL, CALLS = 8, 8
#: TFLOP/s in bf16 without sparsity, by the name that CUDA gives the device.
PEAKS = {"H200": 989.4, "H100": 989.4, "A100": 312.0, "L40S": 362.0, "L4": 121.0}


#: (A, B) of each round.
Pairs = list[tuple[float, float]]


def turns(a: Callable[[], Any], b: Callable[[], Any], rounds: int) -> tuple[Pairs, Pairs]:
    """In seconds, and in seconds of the processor."""

    def clock(side: Callable[[], Any]) -> tuple[float, float]:
        started, used = time.perf_counter(), time.process_time()
        side()
        return time.perf_counter() - started, time.process_time() - used

    found = [(clock(a), clock(b)) for _ in range(rounds)]
    return [(a[0], b[0]) for a, b in found], [(a[1], b[1]) for a, b in found]


def mixed(tokenizer: Any, count: int, longest: int, seed: int) -> list[str]:
    """Texts of words, their lengths in tokens log-uniform between 8 and `longest`, in random order."""
    chance = random.Random(seed)
    words = [word for text in CORPUS for word in text.split()]
    tokens = {word: len(tokenizer.tokenize(word)) for word in words}
    texts = []
    for _ in range(count):
        wanted = int(8 * (longest / 8) ** chance.random()) - 2
        text = [chance.choice(words)]
        while (wanted := wanted - tokens[text[-1]]) > 0:
            text.append(chance.choice(words))
        texts.append(" ".join(text))
    return texts


def in_arrival_order(lengths: Sequence[int], bound: int, _padding: int) -> Iterator[list[int]]:
    """`batches` without its order and so without its bound on padding: the same budget filled as texts come."""
    batch: list[int] = []
    for i in range(len(lengths)):
        if batch and (len(batch) + 1) * max(lengths[j] for j in [*batch, i]) > bound:
            yield sorted(batch, key=lambda j: -lengths[j])
            batch = []
        batch.append(i)
    yield sorted(batch, key=lambda j: -lengths[j])


def flops(lengths: Sequence[int], shape: Shape, width: int = 1024) -> float:
    """Of one pass over texts of these lengths."""
    return sum(
        n * shape.layers * (8 * width**2 + 4 * width * shape.feed_forward + 4 * n * width)
        for n in lengths
    )


def main() -> None:
    arguments = parser("encoder", __doc__)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    arguments.add_argument("--layers", type=int, default=1, help="of 24")
    arguments.add_argument("--texts", type=int, default=500)
    arguments.add_argument("--max-length", type=int, default=512, help="tokens, on both sides")
    arguments.add_argument("--peak-tflops", type=float, help="of a device that is not known here")
    options = arguments.parse_args()
    shape = Shape(options.layers, REAL.feed_forward, REAL.vocabulary, REAL.max_length)
    with tempfile.TemporaryDirectory() as folder:
        measured, details = measure(make_tiny_bge_m3(Path(folder), shape), shape, options)
    finish(options, measured, details)


def measure(
    folder: Path, shape: Shape, options: argparse.Namespace
) -> tuple[Measured, dict[str, Any]]:
    import torch
    from FlagEmbedding import BGEM3FlagModel

    from resources.embedders import bge_m3

    device = "cuda:0" if options.device == "cuda" else options.device
    embedder = bge_m3.BgeM3Embedder(
        str(folder), max_length=options.max_length, device=device, precision=options.precision
    )
    precision = embedder.identity["precision"]
    # On a CPU it turns any precision into fp32; on a GPU both sides have the same.
    stock = BGEM3FlagModel(
        str(folder), use_fp16=precision == "fp16", use_bf16=precision == "bf16", devices=device
    )
    texts = mixed(stock.tokenizer, options.texts, options.max_length, SEED)
    small = texts[: CALLS * SMALL]
    calls = [small[start : start + SMALL] for start in range(0, len(small), SMALL)]
    lengths = [len(ids) for ids in stock.tokenizer(texts)["input_ids"]]

    def encoder(*calls: list[str]) -> None:
        for each in calls:
            embedder.embed(each, KINDS)

    def flag(*calls: list[str]) -> None:
        for each in calls:
            stock.encode(each, max_length=options.max_length, return_sparse=True)

    def arrival() -> None:
        with patch.object(bge_m3, "batches", in_arrival_order):
            encoder(texts)

    measured = Measured()
    measured.conditions |= {
        "device": torch.cuda.get_device_name(device) if device != "cpu" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": precision,
        "seed": SEED,
        "layers": shape.layers,
        "texts": options.texts,
        "tokens": sum(lengths),
        "padding": embedder.embed(texts, KINDS).padding,
    }
    say(json.dumps(measured.conditions))
    encoder(calls[0])
    flag(calls[0])
    ourselves = psutil.Process()
    psutil.cpu_percent()
    ourselves.cpu_percent()
    details: dict[str, Any] = {"processor": {}}
    sides: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "7 calls": (lambda: flag(*calls), lambda: encoder(*calls)),
        "8": (arrival, lambda: encoder(texts)),
        "7": (lambda: flag(texts), lambda: encoder(texts)),
    }
    for row, (a, b) in sides.items():
        if row in options.only:
            measured.pairs[row], used = turns(a, b, options.rounds)
            details["processor"][row] = used
            ratios = [a / b for a, b in used]
            of = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            say(f"{row}: A / B of processor time {of}")
    # Of all cores, while it was measured: what disturbed it.
    others = psutil.cpu_percent() - ourselves.cpu_percent() / (psutil.cpu_count() or 1)
    measured.conditions["others' share of the processor"] = f"{others:.0f} %"
    if device != "cpu" and "7" in measured.pairs:
        name = measured.conditions["device"]
        details |= speeds(measured.pairs["7"], lengths, shape, name, options.peak_tflops)
        say(json.dumps({name: details[name] for name in ("tokens_per_second", "share_of_peak")}))
    return measured, details


def speeds(
    whole: Pairs, lengths: Sequence[int], shape: Shape, device: str, peak: float | None
) -> dict[str, Any]:
    known = next((value for name, value in PEAKS.items() if name in device), None)
    seconds = {"stock": median(a for a, _ in whole), "encoder": median(b for _, b in whole)}
    if not (peak := peak or known):
        raise SystemExit(f"The peak of {device} is not known here: give --peak-tflops.")
    return {
        "tokens_per_second": {name: round(sum(lengths) / each) for name, each in seconds.items()},
        "share_of_peak": {
            name: round(flops(lengths, shape) / each / (peak * 1e12), 4)
            for name, each in seconds.items()
        },
    }


if __name__ == "__main__":
    main()
