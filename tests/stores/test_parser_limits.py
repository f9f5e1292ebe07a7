"""Workers: a document that hangs, exhausts memory or crashes its parser fails with a reason; the others succeed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from resources.errors import ParseError
from resources.parsing import LimitExceeded, ParserPool, parse_document
from resources.parsing.workers import IN_PROCESS_BYTES

PAGE = b"<html><body><h1>A page</h1><p>Its text is read by a worker.</p></body></html>"
#: Takes minutes: normalising a run of combining marks is quadratic.
HANGS = ("a" + "\u0301\u0323" * 1_000_000).encode()
#: Needs fifty bytes of memory for each byte.
NEEDS_MEMORY = b"[" + b",".join([b'{"a":{}}'] * 2_000_000) + b"]"


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "resources.parsing.worker" in child.cmdline()
    ]


def test_a_worker_returns_the_result_of_parse_document() -> None:
    with ParserPool() as pool:
        assert pool.parse(PAGE, "a.html") == parse_document(PAGE, "a.html")
        with pytest.raises(ParseError, match="PDF file is damaged"):
            pool.parse(b"%PDF-1.4 nothing", "a.pdf")
        assert len(workers()) == 1
    assert not workers()


def test_a_document_that_takes_too_long_fails_and_the_others_succeed() -> None:
    with ParserPool(seconds=3) as pool, ThreadPoolExecutor(2) as threads:
        started = time.monotonic()
        hanging = threads.submit(pool.parse, HANGS, "hangs.txt")
        for _ in range(20):
            assert threads.submit(pool.parse, PAGE, "a.html").result().title == "A page"
        with pytest.raises(LimitExceeded, match=r"longer than 3 s; RAG_PARSE_SECONDS"):
            hanging.result()
        assert time.monotonic() - started < 20
        assert pool.parse(PAGE, "a.html").title == "A page"


def test_a_document_that_takes_too_much_memory_fails() -> None:
    with ParserPool(memory_mib=256) as pool:
        with pytest.raises(LimitExceeded, match="more than 256 MiB; RAG_PARSE_MEMORY"):
            pool.parse(NEEDS_MEMORY, "needs_memory.json")
        assert pool.parse(PAGE, "a.html").title == "A page"


def test_a_parser_that_crashes_twice_fails_its_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_FAULT", "document parsing:1")
    with ParserPool() as pool:
        with pytest.raises(ParseError, match=r"the parser crashed \(signal 9\)") as caught:
            pool.parse(PAGE, "a.html")
        assert not isinstance(caught.value, LimitExceeded)
        monkeypatch.delenv("RAG_FAULT")
        assert pool.parse(PAGE, "a.html").title == "A page"


def test_a_document_survives_a_worker_that_is_killed_from_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each worker dies of its second document.
    monkeypatch.setenv("RAG_FAULT", "document parsing:2")
    with ParserPool() as pool:
        assert [pool.parse(PAGE, "a.html").title for _ in range(4)] == ["A page"] * 4


def test_a_pool_closes_without_waiting_for_busy_workers() -> None:
    with ThreadPoolExecutor(1) as threads:
        with ParserPool() as pool:
            hanging = threads.submit(pool.parse, HANGS, "hangs.txt")
            while not workers():
                time.sleep(0.01)
            started = time.monotonic()
        with pytest.raises(RuntimeError, match="closed"):
            hanging.result()
        assert time.monotonic() - started < 20
    assert not workers()


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """One worker is idle; the other is busy with a document that takes minutes."""
    script = f"""
import sys, threading, time, psutil
from resources.parsing import ParserPool
idle, busy = ParserPool(), ParserPool(seconds=1)
idle._parse_in_worker({PAGE!r}, "a.html", None)
hangs = ("a" + "\\u0301\\u0323" * 1_000_000).encode()
threading.Thread(target=lambda: busy._parse_in_worker(hangs, "hangs.txt", None), daemon=True).start()
while not any(worker._ready for worker in busy._busy):
    time.sleep(0.01)
print(*(child.pid for child in psutil.Process().children()), flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", "# a" + " " * IN_PROCESS_BYTES + "b"),
        ("a.md", "# " + "![" * IN_PROCESS_BYTES),
        ("a.md", "---\ntitle: a" + " " * IN_PROCESS_BYTES + "b\n---\nx"),
        ("a.md", "---\nauthor: " + "(" * IN_PROCESS_BYTES + "<\n---\nx"),
        ("a.md", "[a](" * IN_PROCESS_BYTES),
        ("a.md", "```\n~~~\n" * IN_PROCESS_BYTES),
        ("a.txt", "<!--" * IN_PROCESS_BYTES),
        ("a.txt", "<script " * IN_PROCESS_BYTES),
        ("a.txt", "Ã©" * IN_PROCESS_BYTES),
        ("a.txt", "a" + "\u0301\u0323" * IN_PROCESS_BYTES),
        ("a.vtt", "<" * IN_PROCESS_BYTES),
        ("a.vtt", "{\\" * IN_PROCESS_BYTES),
        ("a.csv", '"a""' * IN_PROCESS_BYTES),
        ("a.json", "[" * IN_PROCESS_BYTES),
        ("a.xml", "<a>" * IN_PROCESS_BYTES),
        ("a.xml", f'<!DOCTYPE r [<!ENTITY a "{"x" * 30_000}">]><r>{"&a;" * 10_000}</r>'),
    ],
    ids=lambda value: value[:14],
)
def test_a_document_that_this_process_parses_cannot_hang_it(name: str, text: str) -> None:
    data = text.encode()[:IN_PROCESS_BYTES].decode(errors="ignore").encode()
    started = time.process_time()
    with ParserPool(seconds=0.001) as pool:
        try:
            pool.parse(data, name)
        except ParseError as error:
            assert not isinstance(error, LimitExceeded)
    # The longest takes 1.4 s.
    assert time.process_time() - started < 8
