"""The BGE-M3 encoder compared with stock FlagEmbedding: `python -m tests.benchmarks.encoder [--device cuda]`.

One process, random weights of the real width and vocabulary, turns A B A B … It also prints the ratios of processor
time, which depend less on other load. Texts have 8 to `--max-length` tokens, log-uniformly. On a CPU `--layers 24`, the
real depth, takes hours; with few layers, the tokenizer and the copying weigh more than with 24.

`--device cuda` adds tokens/s and the share of the peak. Operations per layer and token of a text of n tokens: 8d² for
four projections, 4df for the feed-forward part, 4nd for the two products of attention. That is the forward third of
6N + 12LHQT in Chowdhery et al. 2022, "PaLM", appendix B. Padding does not count. The peak is the data sheet's value for
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
#: Texts per small call, and number of these calls.
SMALL, CALLS = 8, 8
#: Part of the device name in CUDA -> TFLOP/s in bf16 without sparsity.
PEAKS = {"H200": 989.4, "H100": 989.4, "A100": 312.0, "L40S": 362.0, "L4": 121.0}

#: (A, B) of each round.
Pairs = list[tuple[float, float]]


def turns(a: Callable[[], Any], b: Callable[[], Any], rounds: int) -> tuple[Pairs, Pairs]:
    """Pairs in seconds, and pairs in seconds of processor time."""

    def clock(side: Callable[[], Any]) -> tuple[float, float]:
        started, used = time.perf_counter(), time.process_time()
        side()
        return time.perf_counter() - started, time.process_time() - used

    clocked = [(clock(a), clock(b)) for _ in range(rounds)]
    return [(a[0], b[0]) for a, b in clocked], [(a[1], b[1]) for a, b in clocked]


def mixed(tokenizer: Any, count: int, longest: int, seed: int) -> list[str]:
    """Texts of random words, in random order; their lengths in tokens are log-uniform between 8 and `longest`."""
    random_source = random.Random(seed)
    words = [word for text in CORPUS for word in text.split()]
    tokens = {word: len(tokenizer.tokenize(word)) for word in words}
    texts = []
    for _ in range(count):
        budget = int(8 * (longest / 8) ** random_source.random()) - 2
        text = [random_source.choice(words)]
        while (budget := budget - tokens[text[-1]]) > 0:
            text.append(random_source.choice(words))
        texts.append(" ".join(text))
    return texts


def in_arrival_order(lengths: Sequence[int], bound: int, _padding: int) -> Iterator[list[int]]:
    """Replaces `batches`: the same token budget, filled in order of arrival, without a bound on padding."""
    batch: list[int] = []
    for i in range(len(lengths)):
        if batch and (len(batch) + 1) * max(lengths[j] for j in [*batch, i]) > bound:
            yield sorted(batch, key=lambda j: -lengths[j])
            batch = []
        batch.append(i)
    yield sorted(batch, key=lambda j: -lengths[j])


def flops(lengths: Sequence[int], shape: Shape, width: int = 1024) -> float:
    """Floating point operations of one pass over texts of these lengths."""
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
    arguments.add_argument(
        "--max-length", type=int, default=512, help="maximum tokens, for A and B"
    )
    arguments.add_argument("--peak-tflops", type=float, help="of a device that PEAKS lacks")
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

    from resources.embedders import bge_m3, encoding

    device = "cuda:0" if options.device == "cuda" else options.device
    embedder = bge_m3.BgeM3Embedder(
        str(folder), max_length=options.max_length, device=device, precision=options.precision
    )
    precision = embedder.identity["precision"]
    # On a CPU, FlagEmbedding computes in fp32 whatever it is given; on a GPU, A and B have the same precision.
    stock = BGEM3FlagModel(
        str(folder), use_fp16=precision == "fp16", use_bf16=precision == "bf16", devices=device
    )
    texts = mixed(stock.tokenizer, options.texts, options.max_length, SEED)
    small = texts[: CALLS * SMALL]
    calls = [small[start : start + SMALL] for start in range(0, len(small), SMALL)]
    lengths = [len(ids) for ids in stock.tokenizer(texts)["input_ids"]]

    def encoder(*calls: list[str]) -> None:
        for call in calls:
            embedder.embed(call, KINDS)

    def flag(*calls: list[str]) -> None:
        for call in calls:
            stock.encode(call, max_length=options.max_length, return_sparse=True)

    def arrival() -> None:
        with patch.object(encoding, "batches", in_arrival_order):
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
    this_process = psutil.Process()
    psutil.cpu_percent()
    this_process.cpu_percent()
    details: dict[str, Any] = {"processor": {}}
    sides: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "7 calls": (lambda: flag(*calls), lambda: encoder(*calls)),
        "8": (arrival, lambda: encoder(texts)),
        "7": (lambda: flag(texts), lambda: encoder(texts)),
    }
    for row, (a, b) in sides.items():
        if row in options.only:
            measured.pairs[row], processor = turns(a, b, options.rounds)
            details["processor"][row] = processor
            ratios = [a / b for a, b in processor]
            text = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            say(f"{row}: A / B of processor time {text}")
    # The load of other processes on all cores during the measurement.
    others = psutil.cpu_percent() - this_process.cpu_percent() / (psutil.cpu_count() or 1)
    measured.conditions["others' share of the processor"] = f"{others:.0f} %"
    if device != "cpu" and "7" in measured.pairs:
        name = measured.conditions["device"]
        details |= speeds(measured.pairs["7"], lengths, shape, name, options.peak_tflops)
        say(json.dumps({name: details[name] for name in ("tokens_per_second", "share_of_peak")}))
    return measured, details


def speeds(
    whole: Pairs, lengths: Sequence[int], shape: Shape, device: str, peak: float | None
) -> dict[str, Any]:
    peak = peak or next((value for name, value in PEAKS.items() if name in device), None)
    seconds = {"stock": median(a for a, _ in whole), "encoder": median(b for _, b in whole)}
    if not peak:
        raise SystemExit(f"The peak of {device} is unknown. Set --peak-tflops.")
    return {
        "tokens_per_second": {name: round(sum(lengths) / value) for name, value in seconds.items()},
        "share_of_peak": {
            name: round(flops(lengths, shape) / value / (peak * 1e12), 4)
            for name, value in seconds.items()
        },
    }


if __name__ == "__main__":
    main()
