"""A sync that has nothing, or little, to do, and what it costs: `python -m tests.benchmarks.unchanged`.

`--sources 10 --files 1000 --many 1000 --json FILE`: cold, unchanged and 1 % edited, processes with the free embedder;
the statements of an unchanged sync, as PostgreSQL logs them; and a look of each sensor where `--many` sources are
registered that have nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
import uuid
from collections import Counter
from contextlib import closing
from pathlib import Path
from statistics import median

import psycopg

from resources.embedded.stack import running
from resources.postgres.registry.sources import list_sources
from resources.sources.registered import open_registered
from tests.benchmarks.memory import words
from tests.benchmarks.rag_command import fresh_home, rag
from tests.benchmarks.workload import edit_one_percent, until_quiet

ROUNDS = 3
#: A statement that took any time is logged after "duration: … ms", with the name of the program before it.
LOGGED = re.compile(r"\] (\S*) LOG:  duration: [\d.]+ ms  (?:statement|execute [^:]*):", re.M)


def write(folder: Path, files: int, seed: int) -> None:
    chance = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(files):
        paragraphs = "\n\n".join(words(chance, 60) + "." for _ in range(4))
        (folder / f"{number:05d}.md").write_text(f"# {words(chance, 4)}\n\n{paragraphs}\n")


def statements(home: Path, *arguments: str) -> dict[str, int]:
    """Program -> the statements that PostgreSQL saw of it during a command."""
    log = home / "logs" / "postgres.log"
    with psycopg.connect(running(home)["postgres"], autocommit=True) as connection:
        # Of the database: that of the server is given on its command line, which is stronger than ALTER SYSTEM.
        connection.execute("ALTER DATABASE rag SET log_min_duration_statement = 0")
        start = log.stat().st_size
        rag(home, *arguments)
        connection.execute("ALTER DATABASE rag RESET log_min_duration_statement")
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(start)
        return dict(Counter(name or "dagster" for name in LOGGED.findall(file.read())))


def looks(home: Path) -> dict[str, list[float]]:
    """Sensor -> seconds of a first look, and of a second one, as the code server takes it."""
    os.environ |= {"RAG_HOME": str(home), "RAG_VECTORS": "dense"}
    from dagster._core.definitions.sensor_definition import SensorExecutionData
    from dagster._core.remote_origin import RegisteredCodeLocationOrigin
    from dagster._grpc.impl import get_external_sensor_execution

    from rag_assets.definitions import build_definitions, build_resources
    from rag_assets.deployment import Deployment

    deployment = Deployment.from_environment()
    deployment.sync_partitions()
    repository = build_definitions(build_resources(deployment.settings)).get_repository_def()
    reference, origin = deployment.instance.get_ref(), RegisteredCodeLocationOrigin("rag-assets")
    found: dict[str, list[float]] = {}
    for definition in repository.sensor_defs:
        cursor = None
        for _ in range(2):
            started = time.perf_counter()
            data = get_external_sensor_execution(
                repository, origin, reference, definition.name, None, None, cursor, None, None
            )
            found.setdefault(definition.name, []).append(time.perf_counter() - started)
            if not isinstance(data, SensorExecutionData) or data.run_requests:
                raise SystemExit(f"{definition.name} was to have nothing to do: {data}")
            cursor = data.cursor
    return found


def register_many(home: Path, count: int) -> None:
    """Sources as they are after a sync of one file each, written as rows: it is the looks that are measured."""
    root = home / "many"
    for number in range(count):
        write(root / f"{number:04d}", 1, number)
    with psycopg.connect(running(home)["postgres"], autocommit=True) as connection:
        connection.execute(
            """INSERT INTO sources (name, source_type, connection_config, sync_status, last_sync_at)
               SELECT 'many ' || n, 'folder', jsonb_build_object('path', %s || '/' || to_char(n, 'FM0000')),
                 'completed', now() FROM generate_series(0, %s - 1) AS n""",
            [str(root), count],
        )
        sources = [source for source in list_sources(connection) if source.name.startswith("many ")]
        with (
            connection.cursor() as cursor,
            cursor.copy(
                "COPY source_entries (source_id, key, document_id, locator, change_token, content_hash) FROM STDIN"
            ) as copy,
        ):
            for source in sources:
                with closing(open_registered(source)) as opened:
                    for entry in opened.list():
                        copy.write_row(
                            (
                                source.id,
                                entry.key,
                                uuid.uuid4(),
                                entry.locator,
                                entry.change_token,
                                "0" * 64,
                            )
                        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=10)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--keep", type=float, default=0, help="seconds to leave the home for a look at the UI"
    )
    options = parser.parse_args()
    with fresh_home() as home:
        rag(home, "up")
        for number in range(options.sources):
            write(home / "files" / f"s{number}", options.files, number)
            rag(home, "sources", "add", f"s{number}", "--path", str(home / "files" / f"s{number}"))
        cold = rag(home, "ingest").seconds
        print(f"cold: {cold:.1f} s", flush=True)
        until_quiet()
        unchanged = [rag(home, "ingest").seconds for _ in range(ROUNDS)]
        print(f"unchanged: {[round(each, 1) for each in unchanged]} s", flush=True)
        counted = statements(home, "ingest")
        print(f"statements of an unchanged sync: {counted}", flush=True)
        edited = []
        for _ in range(ROUNDS):
            edit_one_percent(home / "files")
            edited.append(rag(home, "ingest").seconds)
        print(f"1 % edited: {[round(each, 1) for each in edited]} s", flush=True)
        print(
            f"of cold: unchanged {median(unchanged) / cold:.3f}, edited {median(edited) / cold:.3f}"
        )
        register_many(home, options.many)
        found = looks(home)
        for name, (first, second) in found.items():
            print(f"{name}: {first:.3f} s, then {second:.3f} s")
        if options.json:
            figures = {
                "cold": cold,
                "unchanged": unchanged,
                "statements": counted,
                "edited": edited,
                "looks": found,
            }
            options.json.write_text(json.dumps(figures, indent=2) + "\n")
        if options.keep:
            print(f"RAG_HOME={home}", flush=True)
            time.sleep(options.keep)


if __name__ == "__main__":
    main()
