"""YAML: the text that people write, read as plain data and nothing else.

Text, numbers, true, false, null, lists and mappings. A name that stands twice in one mapping is
refused, where YAML would drop the first; so is what a small file could unfold to (aliases of
aliases), before it is unfolded.
"""

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from nbutils.errors import ParameterError

LENGTH = 100_000  # characters of a text
VALUES = 20_000  # of a text, with every alias as the values that it stands for
DIGITS = 18  # of a whole number
PREFIX = "tag:yaml.org,2002:"
KINDS = {PREFIX + kind for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, to which 1e-3 is a number as it is everywhere else."""


_Loader.add_implicit_resolver(
    PREFIX + "float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read(text: str, where: str) -> Any:
    """The value that a text in YAML stands for; ``where`` tells people which text it is.

    Raises:
        ParameterError: It is no YAML, holds something else than plain data, or too much of it.
    """
    if len(text) > LENGTH:
        raise ParameterError(f"{where} has {len(text)} characters; allowed are {LENGTH}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        told = f"{place}{error.problem or error.context}"
    except RecursionError:
        told = "it is nested too deeply"
    except (yaml.YAMLError, ValueError, LookupError) as error:  # of an explicit tag: !!int x
        told = " ".join(str(error).split())
    raise ParameterError(f"{where} is not valid YAML: {told}")


def _check(node: Node, sizes: dict[Node, int]) -> int:
    """Values in a node that is plain data; ``sizes`` are those of the nodes seen before.

    Raises:
        ConstructorError: It is other data, holds itself, repeats a name or unfolds to too much.
    """
    if node in sizes:
        if not sizes[node]:
            raise _error(node, "this alias stands for what it lies in")
        return sizes[node]
    sizes[node] = 0  # as long as it is open
    if node.tag not in KINDS:
        kind = node.tag.removeprefix(PREFIX)
        raise _error(
            node,
            f"a value of kind {kind!r}; allowed are text, numbers, true, false, null, lists and "
            "mappings (put text that looks like something else in quotes)",
        )
    if isinstance(node, ScalarNode):
        inside: list[Node] = []
        if node.tag == PREFIX + "int" and len(node.value) > DIGITS:
            raise _error(node, f"a whole number of more than {DIGITS} digits")
    elif isinstance(node, MappingNode):
        inside = [part for pair in node.value for part in pair]
        _check_names([key for key, _ in node.value])
    else:
        inside = node.value
    sizes[node] = 1 + sum(_check(part, sizes) for part in inside)
    if sizes[node] > VALUES:
        raise _error(node, f"this unfolds to more than {VALUES} values")
    return sizes[node]


def _check_names(names: list[Node]) -> None:
    """Raise ``ConstructorError`` unless the names of a mapping are text, each another."""
    seen = set()
    for name in names:
        if not isinstance(name, ScalarNode):
            raise _error(name, "a list or a mapping cannot be a name")
        if name.value in seen:
            raise _error(name, f"{name.value!r} stands here twice")
        seen.add(name.value)


def _error(node: Node, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)
