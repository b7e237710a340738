"""Parameters of tests that only `make test-all` runs."""

from collections.abc import Iterable
from typing import Any

import pytest


def later(*values: object) -> Any:
    """Values of parameters that are slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def but(quick: Iterable[str], names: Iterable[str]) -> list[Any]:
    """Names to be parameters, marked slow except for some."""
    return [name if name in quick else later(name) for name in names]
