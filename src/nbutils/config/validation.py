"""Validation: check values against a schema, and explain each error in one line."""

import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from nbutils.config.schema import PATTERNS, Parameters
from nbutils.errors import ParameterError, nearest, short, unknown

Schema = TypeVar("Schema", bound=Parameters)
PROBLEMS = 20
"""Most problems that one message lists; it counts the others."""


def check(schema: type[Schema], values: Mapping[str, Any], where: str = "") -> Schema:
    """Validate values against a schema.

    Raises:
        ParameterError: Values do not fit the schema. One line per field names it, the value given,
            what is allowed, and the nearest name where the field is unknown.
    """
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors()
        lines = [_explain(schema, problem) for problem in problems[:PROBLEMS]]
        if len(problems) > PROBLEMS:
            lines.append(f"and {len(problems) - PROBLEMS} more problems")
        prefix = f"{where}: " if where else ""
        raise ParameterError("\n".join(prefix + line for line in lines)) from None


def _explain(schema: type[BaseModel], problem: Any) -> str:
    """The line for one of pydantic's errors."""
    parts, owner = _place(schema, problem["loc"])
    path, kind, given = ".".join(parts), problem["type"], short.repr(problem["input"])
    if kind == "extra_forbidden":
        return unknown("parameter", path, owner.model_fields)
    if kind == "missing":
        return f"parameter {path!r} is missing"
    if kind == "value_error":
        message = str(problem["ctx"]["error"])
        return f"{path}: {message}" if path else message
    allowed = problem["msg"][0].lower() + problem["msg"][1:]
    if kind == "string_pattern_mismatch":
        pattern = problem["ctx"]["pattern"]
        allowed = f"allowed are {PATTERNS.get(pattern, pattern)}"
    elif kind == "model_type":
        allowed = f"it should be a mapping of {', '.join(owner.model_fields)}"
    elif kind == "literal_error":
        allowed += nearest(str(problem["input"]), re.findall("'([^']*)'", allowed))
    return f"parameter {path!r} is {given}: {allowed}"


def _place(schema: Any, location: tuple[int | str, ...]) -> tuple[list[str], Any]:
    """The parts of a field's path in a tier file, and the schema at its end, or around it.

    Pydantic's path also holds the tags of unions, which are left out.
    """
    parts, owner = [], schema
    for part in location:
        fields = owner.model_fields if _is_schema(owner) else {}
        variants = {tag.tag: variant for variant in get_args(owner) for tag in _tags(variant)}
        if part in variants:
            owner = _plain(variants[part])
            continue
        if part != "[key]":  # pydantic's mark after the key of a mapping
            parts.append(str(part))
        if fields:
            owner = _plain(fields[part].annotation) if part in fields else owner
        elif get_origin(owner) in (list, dict):
            owner = _plain(get_args(owner)[-1])
    return parts, owner


def _tags(variant: Any) -> list[Tag]:
    return [note for note in getattr(variant, "__metadata__", ()) if isinstance(note, Tag)]


def _plain(annotation: Any) -> Any:
    """A type without its ``Annotated`` metadata, and without an alternative None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        types = [type_ for type_ in get_args(annotation) if type_ is not NoneType]
        return _plain(types[0]) if len(types) == 1 else annotation
    return annotation


def _is_schema(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
