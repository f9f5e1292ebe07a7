"""What is wrong with a setting, as one plain sentence: pydantic's own words are for programmers."""

from __future__ import annotations

from pydantic_core import ErrorDetails

#: Pydantic's type of error -> the sentence; its fields come from the error.
_SENTENCES = {
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_type": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_parsing": "expected true or false",
    "dict_type": "expected a JSON object",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected at least {ge:g}",
    "less_than": "expected less than {lt:g}",
    "less_than_equal": "expected at most {le:g}",
    "literal_error": "expected {expected}",
}


def sentence(problem: ErrorDetails) -> str:
    """Return what was expected. The messages of our own validators are such sentences already."""
    context = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return str(context["error"])
    if template := _SENTENCES.get(problem["type"]):
        return template.format(**context)
    return problem["msg"][:1].lower() + problem["msg"][1:]
