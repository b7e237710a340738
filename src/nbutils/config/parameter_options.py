"""Parameters of a notebook as they are written on the command line: ``-p key value``."""

from collections.abc import Sequence
from typing import Any

from nbutils import errors
from nbutils.config import validation, yaml_text
from nbutils.config.notebook_parameters import NOTEBOOKS
from nbutils.config.schema import Parameters
from nbutils.errors import ParameterError


def check(notebook: str, options: Sequence[str]) -> Parameters:
    """The checked parameters of a notebook from options such as ``seed=3``.

    Raises:
        ParameterError: There is no such notebook, or one line for each option that is wrong.
    """
    if notebook not in NOTEBOOKS:
        raise ParameterError(errors.unknown("notebook", notebook, NOTEBOOKS))
    return validation.check(NOTEBOOKS[notebook], dict(map(parse, options)))


def parse(option: str) -> tuple[str, Any]:
    """Split ``key=value`` and read the value as YAML.

    Raises:
        ParameterError: There is no ``=``, or the value is not valid YAML.
    """
    key, equals, value = option.partition("=")
    if not equals:
        raise ParameterError(f"parameter {option!r} has no value: write -p {option} VALUE")
    return key, yaml_text.read(value, where=f"the value {value!r} of {key!r}")


def join_pairs(arguments: Sequence[str]) -> list[str]:
    """Rewrite Papermill's ``-p key value`` as ``-p key=value``, a single value of the option."""
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        joined.append(argument)
        if argument == "-p" and rest:
            key = rest.pop(0)
            bare = "=" not in key and rest and rest[0] != "-p" and not rest[0].startswith("--")
            joined.append(f"{key}={rest.pop(0)}" if bare else key)
    return joined
