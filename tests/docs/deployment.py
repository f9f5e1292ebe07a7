"""The deployment on which the commands of the pages run, and the servers that stand for those of a reader."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from rag_assets.settings.load import Settings
from resources.embedded.stack import running, stop
from resources.milvus.store import MilvusStore
from tests.docs.pages import ROOT, Block, Page, read_page
from tests.docs.session import Run, command_server, run_blocks
from tests.support.embedding_server import embedding_server
from tests.support.folders import servers_folder
from tests.support.servers import s3_server
from tests.support.world import Dagster, World, empty_stores

_TUTORIAL = ROOT / "docs" / "tutorial.md"

#: The state that pages may leave behind.
_STATE = (
    "SELECT name, source_type, connection_config, is_active FROM sources ORDER BY name",
    "SELECT source_id, content, category, tags FROM documents ORDER BY source_id",
    "SELECT model_fingerprint, kind, state FROM vector_collections ORDER BY 1, 2",
    "SELECT name FROM retrieval_sets ORDER BY name",
    "SELECT count(*) FROM forgotten",
    "SELECT count(*) FROM document_versions",
)


@dataclass
class Deployment:
    """One deployment for all pages, and the servers that stand for those of a reader.

    The tutorial begins with nothing. Every other page begins with the tutorial's folder, ingested; it is made again
    only if the page before changed something, which saves half of the time.
    """

    folder: Path
    environment: dict[str, str]
    addresses: dict[str, str]
    readers: int = 0
    reader: Path | None = None
    begin: list[object] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run(self, page: Page) -> tuple[list[Block], Run]:
        """Run the blocks of a page. Returns those that are to run, and their outcome."""
        if page.path == _TUTORIAL:
            self.begin, self.reader = [], self._new_reader()
        elif not self.begin or self.begin != self._state():
            self.reader = self._new_reader()
            self._ingest_the_folder_of_the_tutorial(self.reader)
            self.begin = self._state()
        blocks = [block for block in page.blocks if not block.not_run]
        return blocks, self._run(blocks)

    def _ingest_the_folder_of_the_tutorial(self, reader: Path) -> None:
        """Without Dagster: a fifth of the time of `rag ingest`, which the tutorial runs."""
        folder = next(b for b in read_page(_TUTORIAL).blocks if "mkdir" in b.code)
        assert self._run([folder]).code == 0
        with psycopg.connect(self.urls()["postgres"], autocommit=True) as connection:
            world = World(Settings(home=self.home), reader, Dagster(), connection)
            world.add("handbook")
            world.fill("handbook")
        # The documents of a reader are older than the second in which a page begins.
        time.sleep(1 - time.time() % 1)

    def _run(self, blocks: list[Block]) -> Run:
        assert self.reader is not None
        environment = self.environment | {"HOME": str(self.reader)}
        run = run_blocks(blocks, self.reader, environment, self.addresses)
        return Run([text.replace(str(self.reader), "/home/you") for text in run.outputs], run.code)

    def _new_reader(self) -> Path:
        """Remove all data, and return a new home folder of a reader."""
        urls = self.urls()
        with psycopg.connect(urls["postgres"], autocommit=True) as connection:
            empty_stores(connection, MilvusStore(urls["milvus"], timeout=120))
        shutil.rmtree(self.home / "storage", ignore_errors=True)
        (self.home / "settings.env").unlink(missing_ok=True)
        self.readers += 1
        reader = self.folder / f"reader-{self.readers}"
        # For `source .venv/bin/activate`: the environment is active already.
        (reader / ".venv" / "bin").mkdir(parents=True)
        (reader / ".venv" / "bin" / "activate").touch()
        return reader

    def _state(self) -> list[object]:
        assert self.reader is not None
        files = sorted((self.reader / "handbook").rglob("*"))
        settings = self.home / "settings.env"
        with psycopg.connect(self.urls()["postgres"]) as connection:
            rows = [connection.execute(query).fetchall() for query in _STATE]
        texts = [(str(file), file.read_text()) for file in files if file.is_file()]
        return [rows, texts, settings.exists() and settings.read_text()]

    def urls(self) -> dict[str, str]:
        if len(running(self.home)) < 2:
            # The page before ended with `rag down`.
            subprocess.run(["rag", "up"], env=self.environment, check=True, capture_output=True)
        return running(self.home)


@contextmanager
def pages_deployment() -> Iterator[Deployment]:
    """Yield a deployment in a new folder, removed afterwards."""
    with (
        servers_folder("rag-docs-") as folder,
        command_server(folder) as environment,
        s3_server() as s3,
        embedding_server() as embeddings,
    ):
        environment["RAG_HOME"] = str(folder / "home")
        deployment = Deployment(folder, environment, {})
        try:
            urls = deployment.urls()
            deployment.addresses = {
                "postgresql://rag:secret@db.example.com/rag": urls["postgres"],
                "http://milvus.example.com:19530": urls["milvus"],
                "https://s3.example.com": s3.endpoint,
                "https://embeddings.example.com/v1": embeddings.url,
            }
            yield deployment
        finally:
            stop(folder / "home")
