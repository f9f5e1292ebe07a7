"""The BGE-M3 encoder beside stock FlagEmbedding: `python -m tests.benchmarks.encoder [--device cuda] [--json FILE]`.

One process, random weights of the real width and vocabulary, turns A B A B …; printed are medians of ratios and their
spread, not seconds, which are the machine's of that hour, and the ratios of processor time, which others' load disturbs
less. Texts are 8 to `--max-length` tokens long, log-uniformly. On a CPU `--layers 24`, the real depth, takes hours; few
layers weigh the tokenizer and the copying more than 24 do.

With `--device cuda` also tokens/s and the share of the peak. Operations of a layer for a token that is one of n in its
text: 8d² for four projections, 4df for the feed-forward part, 4nd for attention's two products. That is the forward
third of 6N + 12LHQT in Chowdhery et al. 2022, "PaLM", appendix B. Padding is no work. The peak is the data sheet's for
dense bf16.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import psutil

from rag_assets.pipeline.vectors import Kind
from tests.tiny_bge_m3 import CORPUS, REAL, Shape, make_tiny_bge_m3

SEED = 20240203
KINDS: tuple[Kind, ...] = ("dense", "sparse")
#: Texts of a call, where calls are small, and how many calls.
SMALL, CALLS = 8, 8
#: TFLOP/s in bf16 without sparsity, by the name that CUDA gives the device.
PEAKS = {"H200": 989.4, "H100": 989.4, "A100": 312.0, "L40S": 362.0, "L4": 121.0}


@dataclass(frozen=True)
class Ratio:
    """(seconds, processor seconds) of A and of B in each round."""

    name: str
    target: float
    a: list[tuple[float, float]]
    b: list[tuple[float, float]]

    def rounds(self, clock: int = 0) -> list[float]:
        return [a[clock] / b[clock] for a, b in zip(self.a, self.b)]

    def __str__(self) -> str:
        wall, processor = self.rounds(), self.rounds(1)
        return (
            f"{self.name}: {median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f}), "
            f"of processor time {median(processor):.2f} ({min(processor):.2f} to {max(processor):.2f}), "
            f"target {self.target}"
        )


def turns(
    name: str, target: float, a: Callable[[], Any], b: Callable[[], Any], rounds: int
) -> Ratio:
    found = Ratio(name, target, [], [])
    for _ in range(rounds):
        for side, times in ((a, found.a), (b, found.b)):
            started, used = time.perf_counter(), time.process_time()
            side()
            times.append((time.perf_counter() - started, time.process_time() - used))
    return found


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--layers", type=int, default=1, help="of 24")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--max-length", type=int, default=512, help="tokens, on both sides")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, help="of the device, if it is not known here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shape = Shape(options.layers, REAL.feed_forward, REAL.vocabulary, REAL.max_length)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(make_tiny_bge_m3(Path(folder), shape), shape, options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(folder: Path, shape: Shape, options: argparse.Namespace) -> dict[str, Any]:
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

    machine = {
        "processor": processor(),
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
    print(machine, flush=True)
    encoder(calls[0])
    flag(calls[0])
    ourselves = psutil.Process()
    psutil.cpu_percent()
    ourselves.cpu_percent()
    found = []
    for name, target, a, b in (
        ("stock / encoder, calls of 8 texts", 7.0, lambda: flag(*calls), lambda: encoder(*calls)),
        ("arrival order / encoder, all texts", 1.8, arrival, lambda: encoder(texts)),
        ("stock / encoder, all texts", 1.5, lambda: flag(texts), lambda: encoder(texts)),
    ):
        found.append(turns(name, target, a, b, options.rounds))
        print(found[-1], flush=True)
    figures: dict[str, Any] = {
        "machine": machine,
        # Of all cores, while it was measured: what disturbed it.
        "others_percent": round(
            psutil.cpu_percent() - ourselves.cpu_percent() / (psutil.cpu_count() or 1), 1
        ),
        "ratios": {
            each.name: {"seconds": each.rounds(), "processor": each.rounds(1)} for each in found
        },
    }
    print(f"others had {figures['others_percent']} % of the processor meanwhile")
    if device != "cpu":
        figures |= speeds(found[-1], lengths, shape, machine["device"], options.peak_tflops)
        print({name: figures[name] for name in ("tokens_per_second", "share_of_peak")})
    return figures


def processor() -> str:
    path = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", path.read_text(), re.M) if path.is_file() else []
    return names[0] if names else platform.machine()


def speeds(
    whole: Ratio, lengths: Sequence[int], shape: Shape, device: str, peak: float | None
) -> dict[str, Any]:
    known = next((value for name, value in PEAKS.items() if name in device), None)
    seconds = {"stock": median(a for a, _ in whole.a), "encoder": median(b for b, _ in whole.b)}
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
