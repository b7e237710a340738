"""YAML 1.2, read as plain data: text, numbers, true, false, null, lists and mappings.

A duplicate name in a mapping is an error. So are aliases of aliases that would expand a small file
to very many values; they are counted before they are expanded.
"""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import CollectionNode, Node, ScalarNode

from nbutils.errors import ParameterError

LENGTH = 100_000  # most characters of a text
VALUES = 20_000  # most values of a text, with every alias expanded
DIGITS = 18  # most digits of a whole number
PREFIX = "tag:yaml.org,2002:"
KINDS = {PREFIX + kind for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
BROKEN = (YAMLError, ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""Errors that the library raises on invalid YAML, some of them by mistake."""


def read(text: str, where: str) -> Any:
    """The value of a text in YAML; messages call the text ``where``.

    Raises:
        ParameterError: The text is no YAML, holds other things than plain data, or is too large.
    """
    if len(text) > LENGTH:
        raise ParameterError(f"{where} has {len(text)} characters; allowed are {LENGTH}")
    try:
        node = YAML(typ="safe", pure=True).compose(text)
        if node is not None:
            _values(node, {})
        return YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        problem = "it is nested too deeply"
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = place + " ".join(str(error.problem or error.context).split())
    except BROKEN as error:
        problem = " ".join(str(error).split())
    raise ParameterError(f"{where} is not valid YAML: {problem}")


def _values(node: Node, known: dict[int, int]) -> int:
    """How many values a node holds with every alias expanded.

    ``known`` holds the counts of earlier nodes by their id; 0 where a node is still being counted.

    Raises:
        ConstructorError: The node is no plain data, contains itself, or is too large.
    """
    if id(node) in known:
        if not known[id(node)]:
            raise _error(node, "this alias refers to a value that contains the alias itself")
        return known[id(node)]
    known[id(node)] = 0  # while it is being counted
    kind = str(node.tag).removeprefix(PREFIX)
    if PREFIX + kind not in KINDS:
        raise _error(
            node,
            f"a value of kind {kind!r}; allowed are text, numbers, true, false, null, lists and "
            "mappings (put text that looks like something else in quotes)",
        )
    if kind == "int" and len(node.value) > DIGITS:
        raise _error(node, f"a whole number of more than {DIGITS} digits")
    inside: list[Node] = []
    if isinstance(node, CollectionNode):
        inside = [part for each in node.value for part in (each if kind == "map" else [each])]
        if kind == "map" and not all(isinstance(name, ScalarNode) for name, _ in node.value):
            raise _error(node, "a list or a mapping cannot be a name")
    known[id(node)] = 1 + sum(_values(part, known) for part in inside)
    if known[id(node)] > VALUES:
        raise _error(node, f"this expands to more than {VALUES} values")
    return known[id(node)]


def _error(node: Node, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)
