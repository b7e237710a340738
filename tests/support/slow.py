"""Parameters of tests that only `make test-all` runs."""

from collections.abc import Iterable
from typing import Any

import pytest


def but(quick: Iterable[str], names: Iterable[str]) -> list[Any]:
    """Names to be parameters, marked slow except for some."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]
