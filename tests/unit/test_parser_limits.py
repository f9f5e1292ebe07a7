"""Workers: a document that hangs, swells or crashes its parser fails with a reason, and the others go on."""

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
from resources.parsing.workers import HERE_BYTES

PAGE = b"<html><body><h1>A page</h1><p>Its text is read by a worker.</p></body></html>"
#: Normalising a run of combining marks is quadratic: this takes minutes.
HANGS = ("a" + "\u0301\u0323" * 1_000_000).encode()
#: Fifty bytes of memory for each byte.
SWELLS = b"[" + b",".join([b'{"a":{}}'] * 2_000_000) + b"]"


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "resources.parsing.worker" in child.cmdline()
    ]


def test_what_a_worker_reads_is_what_is_read_here() -> None:
    with ParserPool() as pool:
        assert pool.parse(PAGE, "a.html") == parse_document(PAGE, "a.html")
        with pytest.raises(ParseError, match="PDF file is damaged"):
            pool.parse(b"%PDF-1.4 nothing", "a.pdf")
        assert len(workers()) == 1
    assert not workers()


def test_a_document_that_takes_too_long_fails_and_the_others_go_on() -> None:
    with ParserPool(seconds=4) as pool, ThreadPoolExecutor(2) as threads:
        started = time.monotonic()
        hanging = threads.submit(pool.parse, HANGS, "hangs.txt")
        for _ in range(20):
            assert threads.submit(pool.parse, PAGE, "a.html").result().title == "A page"
        with pytest.raises(LimitExceeded, match=r"longer than 4 s; RAG_PARSE_SECONDS"):
            hanging.result()
        assert time.monotonic() - started < 20
        assert pool.parse(PAGE, "a.html").title == "A page"


def test_a_document_that_takes_too_much_memory_fails() -> None:
    with ParserPool(memory_mib=256) as pool:
        with pytest.raises(LimitExceeded, match="more than 256 MiB; RAG_PARSE_MEMORY"):
            pool.parse(SWELLS, "swells.json")
        assert pool.parse(PAGE, "a.html").title == "A page"


def test_a_parser_that_crashes_twice_fails_its_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_FAULT", "document parsing:1")
    with ParserPool() as pool:
        with pytest.raises(ParseError, match=r"the parser crashed \(signal 9\)") as caught:
            pool.parse(PAGE, "a.html")
        assert not isinstance(caught.value, LimitExceeded)
        monkeypatch.delenv("RAG_FAULT")
        assert pool.parse(PAGE, "a.html").title == "A page"


def test_a_worker_killed_from_outside_is_not_the_document_s_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_FAULT", "document parsing:2")  # each worker dies of its second one
    with ParserPool() as pool:
        assert [pool.parse(PAGE, "a.html").title for _ in range(4)] == ["A page"] * 4


def test_an_interrupted_pool_waits_for_nobody() -> None:
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
    """One waits for its next document, one is busy with a document that would take minutes."""
    script = f"""
import sys, threading, time, psutil
from resources.parsing import ParserPool
pool = ParserPool(seconds=5)
hangs = ("a" + "\\u0301\\u0323" * 1_000_000).encode()
threading.Thread(target=lambda: pool._in_worker(hangs, "hangs.txt", None), daemon=True).start()
pool._in_worker({PAGE!r}, "a.html", None)
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
        ("a.md", "# a" + " " * HERE_BYTES + "b"),
        ("a.md", "# " + "![" * HERE_BYTES),
        ("a.md", "---\ntitle: a" + " " * HERE_BYTES + "b\n---\nx"),
        ("a.md", "---\nauthor: " + "(" * HERE_BYTES + "<\n---\nx"),
        ("a.md", "[a](" * HERE_BYTES),
        ("a.md", "```\n~~~\n" * HERE_BYTES),
        ("a.txt", "<!--" * HERE_BYTES),
        ("a.txt", "<script " * HERE_BYTES),
        ("a.txt", "Ã©" * HERE_BYTES),
        ("a.txt", "a" + "\u0301\u0323" * HERE_BYTES),
        ("a.vtt", "<" * HERE_BYTES),
        ("a.vtt", "{\\" * HERE_BYTES),
        ("a.csv", '"a""' * HERE_BYTES),
        ("a.json", "[" * HERE_BYTES),
        ("a.xml", "<a>" * HERE_BYTES),
        ("a.xml", f'<!DOCTYPE r [<!ENTITY a "{"x" * 30_000}">]><r>{"&a;" * 10_000}</r>'),
    ],
    ids=lambda value: value[:14],
)
def test_what_is_parsed_in_this_process_cannot_hang_it(name: str, text: str) -> None:
    data = text.encode()[:HERE_BYTES].decode(errors="ignore").encode()
    started = time.monotonic()
    with ParserPool(seconds=0.001) as pool:
        try:
            pool.parse(data, name)
        except ParseError as error:
            assert not isinstance(error, LimitExceeded)
    assert time.monotonic() - started < 8  # on a busy machine; 1.4 s at most on an idle one
