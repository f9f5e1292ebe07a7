"""The page of the Python API: the names of `rag_assets.__all__`, with signatures and docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cached_property
from typing import Any, Literal, get_args, get_origin
from typing import get_type_hints as type_hints

import rag_assets
from rag_assets.evaluation.frames import MeasureRow, QueryRow
from resources.postgres.consistency.check_results import CheckResult
from tests.docs.reference.markdown import code, table
from tests.docs.reference.markdown import page as markdown_page

INTRODUCTION = """\
`from rag_assets import Deployment` imports the names on this page; each is imported at its first use. They are typed
(PEP 561). What is not on this page may change in any version.

Frames: `Answer`, `Evaluations` and `Records` have `to_pandas()` and `to_arrow()`. A frame without rows has all its
columns, with their types. Errors are subclasses of `RagError`; its message states what was expected, what was found,
and the command that fixes it. [Examples](../how-to/use-from-python.md)"""

#: Class -> its public members, where the class has others for the command line or for its own construction.
MEMBERS = {
    "Deployment": (
        "from_environment", "start", "endpoints", "searcher", "check_results", "evaluations", "execute",
    ),
    "Searcher": ("search", "answer", "answers", "asearch", "close"),
    "Filters": ("of", "problems"),
    "SearchRequest": ("validate",),
    "AccessScope": ("owner",),
}  # fmt: skip
#: Records whose fields are the columns of a frame -> the method that returns them.
ROWS = {
    CheckResult: "Deployment.check_results",
    MeasureRow: "Deployment.evaluations",
    QueryRow: "Evaluations.query_results",
}

#: Longest signature in one line.
WIDTH = 100


def page() -> str:
    names = sorted(rag_assets.__all__, key=str.lower)
    return markdown_page(
        "Python",
        INTRODUCTION,
        *(_section(name, getattr(rag_assets, name)) for name in names),
        "## Columns of frames",
        "A frame of an `Answer` has the fields of [Hit](#hit).",
        *(
            f"### Columns of {method}\n\n{_doc(kind)}\n\n{_fields(kind)}"
            for kind, method in ROWS.items()
        ),
    )


def _section(name: str, value: Any) -> str:
    parts = [f"## {name}", _origin(value)]
    if inspect.isfunction(value):
        parts += [_block([_signature(name, value)]), inspect.getdoc(value) or ""]
        return "\n\n".join(parts)
    parts.append(_doc(value))
    if is_dataclass(value) and name not in ("Deployment", "Searcher"):
        parts.append(_fields(value))
    shown = list(members(value, MEMBERS.get(name)))
    if shown:
        parts.append("### " + ("Methods" if len(shown) > 1 else "Method") + f" of {name}")
        parts += [f"{_block([signature])}\n\n{text}".strip() for signature, text in shown]
    return "\n\n".join(part for part in parts if part)


def _origin(value: Any) -> str:
    kind = "Function" if inspect.isfunction(value) else "Class"
    bases = [
        base.__name__ for base in getattr(value, "__bases__", ()) if issubclass(base, Exception)
    ]
    of = f", a subclass of {code(bases[0])}" if bases else ""
    return f"{kind} in `{value.__module__}`{of}."


def _doc(value: type) -> str:
    # A dataclass without a docstring has its signature as one.
    text = vars(value).get("__doc__") or ""
    return "" if text.startswith(f"{value.__name__}(") else inspect.cleandoc(text)


def _fields(value: Any) -> str:
    rows, hints = [], type_hints(value)
    for field in fields(value):
        if field.default is not MISSING:
            default = code(repr(field.default))
        else:
            default = (
                ""
                if field.default_factory is MISSING
                else code(f"{_name(field.default_factory)}()")
            )
        rows.append((code(field.name), _field_type(str(field.type), hints[field.name]), default))
    return table(("field", "type", "default"), rows)


def _field_type(text: str, hint: Any) -> str:
    """Return the type as the code has it, or the values of a Literal."""
    literals = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
    if not literals:
        return code(text)
    values = " or ".join(code(str(item)) for item in get_args(literals[0]))
    return values + (" or `None`" if text.endswith("None") else "")


def members(value: Any, public: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Yield (signature, docstring) of public methods and properties that the class itself defines; None: of all."""
    for name, member in vars(value).items():
        if name.startswith("_") or name == "model_config" or (public and name not in public):
            continue
        if isinstance(member, (property, cached_property)):
            function = member.fget if isinstance(member, property) else member.func
            annotation = getattr(function, "__annotations__", {}).get("return", "")
            yield f"{name}: {annotation}", inspect.getdoc(member) or ""
            continue
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function):
            prefix = "@classmethod\n" if isinstance(member, classmethod) else ""
            yield prefix + _signature(name, function), inspect.getdoc(function) or ""


class _Text:
    """An annotation that is shown without quotes."""

    def __init__(self, text: object) -> None:
        self.text = text

    def __repr__(self) -> str:
        return str(self.text)


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=_shown(parameter.annotation))
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    shown = signature.replace(
        parameters=parameters, return_annotation=_shown(signature.return_annotation)
    )
    line = f"{name}{shown}"
    if len(line) <= WIDTH:
        return line
    arguments = []
    keyword_only = False
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            arguments.append("    *,")
        arguments.append(f"    {parameter},")
    return "\n".join([f"{name}(", *arguments, ")" + line.rpartition(")")[2]])


def _shown(annotation: Any) -> Any:
    return _Text(annotation) if isinstance(annotation, str) else annotation


def _name(value: Any) -> str:
    return getattr(value, "__name__", str(value))


def _block(lines: list[str]) -> str:
    # Not `python`: the blocks of that language on the pages are run.
    return "```py\n" + "\n".join(lines) + "\n```"
