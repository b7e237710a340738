"""The identity of a run: its key, a hash of everything that decides its result, and of no code."""

from collections.abc import Mapping
from typing import Any

from nbutils.config.schema import identifying
from nbutils.files import canonical, sha256


def identity(
    stage: str, parameters: dict[str, Any], inputs: Mapping[str, Mapping[str, str]], version: int
) -> str:
    """The key of a run, 16 hexadecimal digits: a hash of everything that decides its result.

    Args:
        stage: Name of the stage.
        parameters: Parameters as JSON; only those that identify a run are hashed.
        inputs: Maps each role to the ``key`` and ``digest`` of a finished run.
        version: Version of the stage.
    """
    hashed = identifying(parameters)
    values = {"stage": stage, "parameters": hashed, "inputs": inputs, "version": version}
    return sha256(canonical(values))[:16]
