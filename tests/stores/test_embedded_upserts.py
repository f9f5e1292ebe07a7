"""`fast_upsert` writes the bytes that Milvus Lite itself writes: logs, data files and answers, in two folders."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from milvus_lite import MilvusLite
from pymilvus import MilvusClient
from pymilvus.client.prepare import Prepare

from rag_assets.pipeline.vectors import Kind
from resources.embedded import fast_upsert
from resources.embedded import milvus_lite_internals as lite
from resources.milvus.collections import VECTOR_FIELD, scalars
from resources.milvus.driver import DataType, FieldData, ScalarField, StringArray, UpsertRequest
from resources.milvus.upsert_request import upsert_request

DIMENSION = 4
KINDS: tuple[Kind, ...] = ("dense", "sparse", "multi")
IDS = [f"{number:032x}" for number in range(10)]
TEXTS = ["", "a", "naïve 文書 🦦", "\n\x00\"'\\"]
TAGS = [[], ["a tag"], ["étiquette", ""], [f"{tag}" for tag in range(64)]]
POSITIONS: list[Any] = [[0], [511], [], {"ключ": ["é", 1e300, -0.0, None]}]
#: The first is a vector of our rows; the others are the numbers that conversions change most easily.
DENSE = np.array(
    [
        [0.5, -0.5, 0.1, 0.7], [-0.0, 1e-45, 3.4028235e38, -1.1754944e-38], [0.0] * 4,
        [1 / 3, 2**24 + 2, -1e-30, 16777217],
    ],
    "<f4",
)  # fmt: skip
SPARSE = [[(3, 0.1)], [(0, 1e-45), (7, 3.4028235e38), (2**32 - 2, 1 / 3)], [(5, 2.0), (9, 2.0)]]


def sparse(*pairs: tuple[int, float]) -> bytes:
    return np.array(list(pairs), [("index", "<u4"), ("weight", "<f4")]).tobytes()


def request_of(kind: Kind, ids: list[str], seed: int) -> UpsertRequest:
    """A request as the stages send it."""

    def value(name: str, data_type: Any, number: int) -> Any:
        match data_type:
            case DataType.VARCHAR:
                return ["en", ""][number % 2] if name == "language" else TEXTS[number % 4]
            case DataType.INT32:
                return [0, 2**31 - 1, -(2**31)][number % 3]
            case DataType.INT64:
                return [-1, 2**63 - 1, -(2**63)][number % 3]
            case DataType.JSON:
                return POSITIONS[number % 4]
            case _:
                return TAGS[number % 4]

    rows = [
        {"id": row_id}
        | {
            name: value(name, data_type, seed + at + place)
            for place, (name, (data_type, _)) in enumerate(scalars(kind).items())
        }
        | {VECTOR_FIELD: sparse(*SPARSE[(seed + at) % 3]) if kind == "sparse" else DENSE[(seed + at) % 4]}
        for at, row_id in enumerate(ids)
    ]  # fmt: skip
    return upsert_request("t", kind, rows)


def column(request: UpsertRequest, name: str) -> Any:
    return next(each for each in request.fields_data if each.field_name == name)


def without(*names: str) -> Callable[[UpsertRequest], None]:
    def change(request: UpsertRequest) -> None:
        kept = [each for each in request.fields_data if each.field_name not in names]
        del request.fields_data[:]
        request.fields_data.extend(kept)

    return change


def texts(name: str, *values: str) -> Callable[[UpsertRequest], None]:
    """Replace the first values of a column, or append it."""

    def change(request: UpsertRequest) -> None:
        if all(each.field_name != name for each in request.fields_data):
            added = FieldData(field_name=name, type=DataType.VARCHAR.value)
            added.scalars.string_data.data.extend(["x"] * request.num_rows)
            request.fields_data.append(added)
        data = column(request, name).scalars.string_data.data
        data[:] = [*values[: len(data)], *data[len(values) :]]

    return change


def json_values(name: str, value: bytes) -> Callable[[UpsertRequest], None]:
    def change(request: UpsertRequest) -> None:
        column(request, name).scalars.json_data.data[0] = value

    return change


def tags(first: ScalarField) -> Callable[[UpsertRequest], None]:
    def change(request: UpsertRequest) -> None:
        column(request, "tags").scalars.array_data.data[0].CopyFrom(first)

    return change


def vector(numbers: list[float], dimension: int = DIMENSION) -> Callable[[UpsertRequest], None]:
    """Replace the first numbers of the vectors."""

    def change(request: UpsertRequest) -> None:
        vectors = column(request, VECTOR_FIELD).vectors
        vectors.dim = dimension
        vectors.float_vector.data[: len(numbers)] = numbers

    return change


def terms(first: bytes) -> Callable[[UpsertRequest], None]:
    def change(request: UpsertRequest) -> None:
        column(request, VECTOR_FIELD).vectors.sparse_float_vector.contents[0] = first

    return change


def change_field(name: str, **values: Any) -> Callable[[UpsertRequest], None]:
    def change(request: UpsertRequest) -> None:
        column(request, name).MergeFrom(FieldData(**values))

    return change


def change_request(**values: Any) -> Callable[[UpsertRequest], None]:
    def change(request: UpsertRequest) -> None:
        request.MergeFrom(UpsertRequest(**values))

    return change


def shortened(name: str) -> Callable[[UpsertRequest], None]:
    def change(request: UpsertRequest) -> None:
        whole = column(request, name)
        if whole.HasField("scalars"):
            kind_of_values = getattr(whole.scalars, whole.scalars.WhichOneof("data"))
            del kind_of_values.data[-1]
        elif (values := whole.vectors).HasField("float_vector"):
            del values.float_vector.data[-1]
        else:
            del values.sparse_float_vector.contents[-1]

    return change


def twice(name: str) -> Callable[[UpsertRequest], None]:
    def change(request: UpsertRequest) -> None:
        request.fields_data.append(column(request, name))

    return change


Changes = Mapping[str, Callable[[UpsertRequest], None]]
#: Changes after which a request is still written by column, those that belong to one kind first.
PLAIN: Mapping[str, Changes] = {
    "multi": {"other JSON": json_values("token_positions", b' [1.50, "\\u00e9\\n",\t{"b":1,"a":[]}]')},
    "dense": {},
    "sparse": {},
    "": {
        "none": lambda _: None,
        "without undeclared values": without("$meta"),
        "a partition": change_request(partition_name="other"),
        "tags without a type": tags(ScalarField()),
        "an id twice": texts("id", IDS[0], IDS[0]),
        "the longest language": texts("language", "文書"),
    },
}  # fmt: skip
#: Changes after which only Milvus Lite's own code writes it, or refuses it.
OTHER: Mapping[str, Changes] = {
    "dense": {
        "no number": vector([float("nan")]),
        "an infinite number": vector([float("-inf")]),
        "another dimension": vector([], 2),
        "no dimension": vector([], 0) ,
    },
    "sparse": {
        "in descending order": terms(sparse((9, 1), (3, 2))),
        "an index twice": terms(sparse((3, 1), (3, 2))),
        "a zero": terms(sparse((3, 1), (4, 0.0), (5, -0.0))),
        "a negative weight": terms(sparse((3, -1))),
        "no weight": terms(sparse((3, float("nan")))),
        "an infinite weight": terms(sparse((3, float("inf")))),
        "the reserved index": terms(sparse((3, 1), (2**32 - 1, 1))),
        "nothing": terms(b""),
        "half a pair": terms(sparse((3, 1))[:-1]),
    },
    "multi": {
        "a number": json_values("token_positions", b"3"),
        "a text": json_values("token_positions", b'"a"'),
        "null": json_values("token_positions", b"null"),
        "no JSON": json_values("token_positions", b"[1"),
        "no text": json_values("token_positions", b"[\"\xff\"]"),
        "half a character": json_values("token_positions", b'["\\ud800"]'),
        "deep": json_values("token_positions", b"[" * 100_000 + b"]" * 100_000),
    },
    "": {
        "without a text": without("author"),
        "without a vector": without(VECTOR_FIELD),
        "without most": without(VECTOR_FIELD, "tags", "chunk_position", "author", "source"),
        "another field": texts("colour", "red"),
        "undeclared values": json_values("$meta", b'{"colour": "red"}'),
        "undeclared values of no object": json_values("$meta", b"[]"),
        "a long language": texts("language", "文書集"),
        "a long id": texts("id", "i" * 256),
        "many tags": tags(ScalarField(string_data=StringArray(data=["t"] * 65))),
        "numbers as tags": tags(ScalarField(long_data={"data": [1]})),
        "a null": change_field("author", valid_data=[False]),
        "nulls that are none": change_field("tags", valid_data=[True] * 3),
        "undeclared texts of no object": change_field("$meta", type=DataType.VARCHAR.value),
        "another type": change_field("author", type=DataType.JSON.value),
        "a shorter type": change_field("chunk_position", type=DataType.INT8.value),
        "undeclared texts": change_field("author", is_dynamic=True),
        "an unknown partition": change_request(partition_name="nowhere"),
        "few rows": change_request(num_rows=2),
        "many rows": change_request(num_rows=9),
        "few ids": shortened("id"), "few positions": shortened("chunk_position"), "few tags": shortened("tags"),
        "few times": shortened("created_timestamp"), "few vectors": shortened(VECTOR_FIELD),
        "few undeclared values": shortened("$meta"), "ids twice": twice("id"), "vectors twice": twice(VECTOR_FIELD),
    },
}  # fmt: skip


#: What `install` replaces.
PLACES = (
    (lite.servicer, "fields_data_to_records"), (lite.Collection, "insert"), (lite.Collection, "upsert"),
    (lite.MemTable, "_build_data_table"),
)  # fmt: skip


@dataclass
class Code:
    """The replacement, and the code of Milvus Lite. `translated`: the requests of which the latter made rows."""

    fast: list[Any] = field(default_factory=list)
    lite: list[Any] = field(default_factory=list)
    translated: list[int] = field(default_factory=list)

    @staticmethod
    def current() -> list[Any]:
        return [getattr(owner, name) for owner, name in PLACES]

    def use(self, code: list[Any]) -> None:
        for (owner, name), replacement in zip(PLACES, code, strict=True):
            setattr(owner, name, replacement)


@pytest.fixture(scope="module")
def code() -> Iterator[Code]:
    with pytest.MonkeyPatch.context() as patched:
        for owner, name in PLACES:
            # Restored at the end.
            patched.setattr(owner, name, getattr(owner, name))
        made = Code()
        made.lite = Code.current()
        translate = made.lite[0]

        def counting(fields: Any, count: int, **options: Any) -> Any:
            made.translated.append(count)
            return translate(fields, count, **options)

        lite.servicer.fields_data_to_records = counting
        assert fast_upsert.install()
        made.fast = Code.current()
        yield made


class Context:
    """Of a request; Milvus Lite looks for the name of the database there."""

    def invocation_metadata(self) -> tuple[()]:
        return ()


@dataclass
class Stored:
    """A folder with a collection, behind the gRPC service of Milvus Lite."""

    folder: Path
    database: Any
    service: Any

    @classmethod
    @contextmanager
    def open(cls, kind: Kind) -> Iterator[Stored]:
        with tempfile.TemporaryDirectory() as folder, MilvusLite(folder) as database:
            stored = cls(Path(folder), database, lite.MilvusServicer(database))
            stored.call("CreateCollection", Prepare.create_collection_request("t", schema(kind)))
            stored.collection.create_partition("other")
            yield stored

    def call(self, method: str, request: Any) -> bytes:
        """Return the answer, errors included."""
        return getattr(self.service, method)(request, Context()).SerializeToString()

    @property
    def collection(self) -> Any:
        return self.database.get_collection("t")

    def files(self) -> dict[str, bytes]:
        """The logs and the data."""
        paths = (path for end in ("arrow", "parquet") for path in self.folder.rglob(f"*.{end}"))
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}


def schema(kind: Kind) -> Any:
    declared = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    declared.add_field("id", DataType.VARCHAR, max_length=255, is_primary=True)
    if kind == "sparse":
        declared.add_field(VECTOR_FIELD, DataType.SPARSE_FLOAT_VECTOR)
    else:
        declared.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=DIMENSION)
    for name, (data_type, parameters) in scalars(kind).items():
        declared.add_field(name, data_type, **parameters)
    return declared


#: Changes after which the collection has a value that no field is declared for: nothing is by column any more.
UNDECLARED = ("another field", "undeclared values", "undeclared texts")


def changes_of(kind: Kind, groups: Mapping[str, Changes]) -> Changes:
    vectors = {} if kind == "sparse" else groups["dense"]
    return {**vectors, **groups[kind], **groups[""]}


def compare(code: Code, kind: Kind, steps: Sequence[tuple[Any, ...]]) -> None:
    """Make all steps in two folders, with Milvus Lite's own code and with the replacement."""
    by_column, others = changes_of(kind, PLAIN), changes_of(kind, OTHER)
    with Stored.open(kind) as fast, Stored.open(kind) as right:
        undeclared = False
        for step in steps:
            answers = []
            for stored, used in ((right, code.lite), (fast, code.fast)):
                code.use(used)
                code.translated.clear()
                match step:
                    case ("upsert", change, row_ids, seed):
                        request = request_of(kind, row_ids, seed)
                        {**by_column, **others}[change](request)
                        answers.append(stored.call("Upsert", request))
                        undeclared |= change in UNDECLARED
                        if used is code.fast and not undeclared:
                            assert bool(code.translated) == (change in others), step
                    case ("delete", row_ids):
                        answers.append(stored.collection.delete(row_ids))
                    case _:
                        # The fourth file of a partition is merged with the others.
                        stored.collection.flush()
                        stored.collection._wait_for_bg()
            assert len(set(answers)) < 2, step
            assert fast.files() == right.files(), step


@pytest.mark.parametrize("kind", KINDS)
def test_each_change_of_a_request_is_written_as_by_milvus_lite(code: Code, kind: Kind) -> None:
    """Over new rows, rows in memory and rows in a segment."""
    changes = {*changes_of(kind, PLAIN), *changes_of(kind, OTHER)} - {*UNDECLARED}
    upserts = [("upsert", each, IDS[at % 7 :][:3], at) for at, each in enumerate(sorted(changes))]
    compare(code, kind, [*upserts, ("flush",), *upserts, ("flush",)])


@pytest.mark.parametrize("change", UNDECLARED)
def test_an_upsert_keeps_undeclared_values(code: Code, change: str) -> None:
    """Of a row in memory and of one in a segment, if Milvus Lite does."""
    upserts = [("upsert", "none", IDS[:3], 1), ("upsert", change, IDS[:3], 2)]
    plain = ("upsert", "none", IDS[:4], 3)
    compare(code, "dense", [*upserts, plain, ("flush",), plain, ("flush",)])


def steps(kind: Kind) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    row_ids = st.lists(st.sampled_from(IDS), min_size=3, max_size=5, unique=True)
    changes = [
        st.sampled_from(sorted(changes_of(kind, groups).keys() - UNDECLARED))
        for groups in (PLAIN, OTHER)
    ] + [st.sampled_from(UNDECLARED)]
    upserts = [
        st.tuples(st.just("upsert"), change, row_ids, st.integers(0, 11)) for change in changes
    ]
    other = (st.tuples(st.just("delete"), row_ids), st.tuples(st.just("flush")))
    return st.lists(st.one_of(*upserts[:1] * 3, *upserts, *other), min_size=4, max_size=16)


@pytest.mark.parametrize("kind", ["sparse", "multi"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_files_and_answers_are_those_of_milvus_lite(code: Code, kind: Kind, data: Any) -> None:
    compare(code, kind, [*data.draw(steps(kind)), ("flush",)])


def test_the_replaced_code_of_milvus_lite_is_the_known_one() -> None:
    """Fails at the first upgrade that changes a file which `fast_upsert` repeats or relies on."""
    assert lite.fingerprint(lite.UPSERT_CODE) == lite.KNOWN_UPSERT, (
        f"milvus-lite {version('milvus-lite')}: compare the files of UPSERT_CODE with their last version, repair "
        "resources/embedded/fast_upsert.py, then set KNOWN_UPSERT"
    )


def test_another_milvus_lite_keeps_its_code(code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    code.use(code.lite)
    monkeypatch.setattr(lite, "KNOWN_UPSERT", "another")
    assert not fast_upsert.install()
    assert Code.current() == code.lite
