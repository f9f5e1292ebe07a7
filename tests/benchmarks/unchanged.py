"""The cost of a sync with nothing, or little, to do: `python -m tests.benchmarks.unchanged`.

`--sources 10 --files 1000 --many 1000 --json FILE`: cold, unchanged and 1 % edited, as processes with the free
embedder; the statements of an unchanged sync, as PostgreSQL logs them; and an evaluation of each sensor with `--many`
registered sources that have nothing to do.
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
#: The log line of a statement: the name of the program, then "duration: … ms".
LOGGED = re.compile(r"\] (\S*) LOG:  duration: [\d.]+ ms  (?:statement|execute [^:]*):", re.M)


def write(folder: Path, files: int, seed: int) -> None:
    random_source = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(files):
        paragraphs = "\n\n".join(words(random_source, 60) + "." for _ in range(4))
        (folder / f"{number:05d}.md").write_text(f"# {words(random_source, 4)}\n\n{paragraphs}\n")


def statements(home: Path, *arguments: str) -> dict[str, int]:
    """Program -> number of its statements in PostgreSQL during a command."""
    log = home / "logs" / "postgres.log"
    with psycopg.connect(running(home)["postgres"], autocommit=True) as connection:
        # The setting of the database: the server has its own on the command line, which overrides ALTER SYSTEM.
        connection.execute("ALTER DATABASE rag SET log_min_duration_statement = 0")
        start = log.stat().st_size
        rag(home, *arguments)
        connection.execute("ALTER DATABASE rag RESET log_min_duration_statement")
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(start)
        return dict(Counter(name or "dagster" for name in LOGGED.findall(file.read())))


def sensor_seconds(home: Path) -> dict[str, list[float]]:
    """Sensor -> seconds of its first and of its second evaluation, as the code server runs them."""
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
    seconds: dict[str, list[float]] = {}
    for definition in repository.sensor_defs:
        cursor = None
        for _ in range(2):
            started = time.perf_counter()
            data = get_external_sensor_execution(
                repository, origin, reference, definition.name, None, None, cursor, None, None
            )
            seconds.setdefault(definition.name, []).append(time.perf_counter() - started)
            if not isinstance(data, SensorExecutionData) or data.run_requests:
                raise SystemExit(
                    f"invalid measurement, {definition.name} had something to do: {data}"
                )
            cursor = data.cursor
    return seconds


def register_many(home: Path, count: int) -> None:
    """Register sources in the state after a sync of one file each, by writing their rows: only sensors are measured."""
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
                with closing(open_registered(source)) as reader:
                    for entry in reader.list():
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
        "--keep", type=float, default=0, help="seconds to keep the home, for the UI"
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
        print(f"unchanged: {[round(value, 1) for value in unchanged]} s", flush=True)
        counted = statements(home, "ingest")
        print(f"statements of an unchanged sync: {counted}", flush=True)
        edited = []
        for _ in range(ROUNDS):
            edit_one_percent(home / "files")
            edited.append(rag(home, "ingest").seconds)
        print(f"1 % edited: {[round(value, 1) for value in edited]} s", flush=True)
        print(
            f"of cold: unchanged {median(unchanged) / cold:.3f}, edited {median(edited) / cold:.3f}"
        )
        register_many(home, options.many)
        sensors = sensor_seconds(home)
        for name, (first, second) in sensors.items():
            print(f"{name}: {first:.3f} s, then {second:.3f} s")
        if options.json:
            figures = {
                "cold": cold,
                "unchanged": unchanged,
                "statements": counted,
                "edited": edited,
                "looks": sensors,
            }
            options.json.write_text(json.dumps(figures, indent=2) + "\n")
        if options.keep:
            print(f"RAG_HOME={home}", flush=True)
            time.sleep(options.keep)


if __name__ == "__main__":
    main()
