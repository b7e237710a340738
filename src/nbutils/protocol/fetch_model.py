"""Fetch a pretrained model from the hub, a folder, a GGUF file or a wheel.

Only safetensors and GGUF files are read, never pickles, and remote code is never executed. From
the hub, only the files that loading needs are downloaded, at one full revision.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pandas as pd
import torch
from huggingface_hub import errors as hub_errors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from nbutils.config.schema import Dtype, FetchModel, Passages
from nbutils.errors import first_line
from nbutils.protocol import (
    integrity,
    model_sources,
    models,
    proofs,
    sentencepiece_tokenizer,
    text,
    wheels,
)
from nbutils.protocol.models import ModelError
from nbutils.runs.types import Progress


def run(p: FetchModel, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *fetch model*: writes a model folder, ``passages.parquet`` and ``facts.json``.

    Raises:
        ModelError: The model cannot be fetched or loaded, or its files do not fit together.
    """
    if p.content and model_sources.content_digest(p.origin) != p.content:
        raise ModelError(f"{p.origin} changed since this run was planned: run again")
    model, tokenizer = read(p.origin, p.dtype)
    set_bos(tokenizer, p.origin, p.bos)
    integrity.check_token_ids(tokenizer, models.embedding_rows(model), p.origin)  # with that BOS
    progress(0.5)
    # where the tokenizer adds BOS, every training sequence began with it; Pythia's adds none
    adds_bos = models.adds_bos(tokenizer)
    extraction = adds_bos if p.extraction_bos is None else p.extraction_bos
    models.save(model, tokenizer, out, p.scoring_bos, extraction)
    size = sum(w.numel() for w in model.parameters())
    del model  # it is loaded again as later stages load it: on the device, in its precision
    progress(0.7)
    model, _ = models.load(out, out)
    try:
        finding = proofs.find(model)
    except ModelError as error:
        raise ModelError(f"{p.origin} cannot be used: {error}") from None
    proofs.note(finding.shortcuts, model)
    proofs.write(model, out)
    if p.passages:
        _, name, _ = model_sources.parts(p.origin)
        passages(p.passages, tokenizer, name).to_parquet(out / "passages.parquet", index=False)
    facts = {
        "parameters": size,
        "training_tokens": None,
        "planted_share": None,
        "exposures": None,
        "shortcuts": finding.facts(),
        "tried": proofs.where(model),
    }
    (out / "facts.json").write_text(json.dumps(facts, indent=1), "utf-8")
    progress(1.0)


# --- Supporting code -------------------------------------------------------------------------


MEMORIZED = "EleutherAI/pythia-memorized-evals"
MEMORIZED_REVISION = "d97edd12f08884dae3dfcef8d5cbbba5129e49e0"
PASSAGE_CHARS = 1200


# ---------------------------------------------------------------- loading


@contextmanager
def local(origin: str) -> Iterator[tuple[Path, str | None]]:
    """A temporary folder with the files of an origin, and the name of its GGUF file, or None.

    The folder holds only the files whose hash identifies the model, under fixed names, so that no
    other file can be read.
    """
    kind, place, revision = model_sources.parts(origin)
    with tempfile.TemporaryDirectory() as scratch:
        folder, gguf = Path(scratch), Path(scratch) / "model.gguf"
        if kind == "wheel":
            wheels.copy(*model_sources.WHEELS[place], gguf)
        elif kind == "gguf":
            gguf.symlink_to(model_sources.gguf(model_sources.path(place)))
        else:
            origin_folder = (
                download(place, revision) if kind == "hub" else model_sources.path(place)
            )
            for file in model_sources.files(origin_folder):
                (folder / file.name).symlink_to(file.resolve())
        yield folder, gguf.name if kind in ("wheel", "gguf") else None


def download(name: str, revision: str) -> Path:
    """Download one revision from the hub; return its folder in the hub's own cache.

    Raises:
        ModelError: No network, an unknown or gated repository, an unknown revision, or a full disk.
    """
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=model_sources.WANTED
        )
    except hub_errors.GatedRepoError as error:
        raise ModelError(
            f"{name} is gated: accept its licence on its page, then log in with `hf auth login`"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {name!r}, or it is private: check the name (OWNER/NAME)"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{name} has no revision {revision}: give the full hash of a commit"
        ) from error
    except Exception as error:  # httpx and the system share no base class
        cause = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(
            f"{name} at revision {revision[:10]} cannot be downloaded ({cause}): check the network "
            "and the disk, or give a local copy as folder:PATH"
        ) from error
    return Path(folder)


def read(
    origin: str, dtype: Dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a pretrained model and its tokenizer, in the precision in which it was published.

    With ``dtype`` the weights are rounded to that type. Without it, those of a GGUF file become
    float32.

    Raises:
        ModelError: The model cannot be loaded, needs remote code or lacks weights, or the
            tokenizer does not fit it.
        OriginError: Files are missing, or not safe to read.
    """
    with local(origin) as (folder, gguf), _quiet():
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        if gguf:
            options["gguf_file"] = gguf
        precision = getattr(torch, dtype) if dtype else torch.float32 if gguf else "auto"
        # weights of a wrong shape are reported by name with the other problems, not raised
        loading = {"use_safetensors": True, "output_loading_info": True}
        loading["ignore_mismatched_sizes"] = True
        try:
            sentencepiece = sentencepiece_tokenizer.file(folder)
            if sentencepiece:
                tokenizer = sentencepiece_tokenizer.read(folder, sentencepiece, origin)
            else:
                tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            integrity.check_vocabulary(tokenizer, origin)
            model, report = AutoModelForCausalLM.from_pretrained(
                folder, dtype=precision, **loading, **options
            )
        except ModelError:
            raise
        except Exception as error:  # transformers, safetensors and gguf share no base class
            raise ModelError(_explain(origin, error, folder)) from error
        _correct_tied_head(model)
        integrity.check_weights(model, report, origin)
        model = (_unquantized(model) if gguf else model).eval()
        integrity.check_token_ids(tokenizer, models.embedding_rows(model), origin)
    return model, tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tables that transformers prints while loading: our errors are one line."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _correct_tied_head(model: PreTrainedModel) -> None:
    """Turn off ``tie_word_embeddings`` where the files hold a separate head.

    Transformers loads such a head; models made from the configuration must have it, too.
    """
    if not model.all_tied_weights_keys:
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


def _explain(origin: str, error: Exception, folder: Path) -> str:
    """The message for an error that transformers raised while loading an origin."""
    reason = first_line(error).replace(f"{folder}/", "")
    if "trust_remote_code" in str(error):
        return (
            f"{origin} needs code from its repository, which this project never executes: take a "
            "model whose architecture is part of transformers"
        )
    if "Unrecognized configuration class" in reason:
        return (
            f"{origin} is no causal language model ({reason}): take one that predicts the next "
            "token"
        )
    if "backend tokenizer" in reason:
        return integrity.NO_TOKENIZER.format(origin)
    if isinstance(error, ImportError):
        return (
            f"{origin} cannot be loaded ({reason}): install what is missing, or take another model"
        )
    return (
        f"{origin} cannot be loaded ({type(error).__name__}: {reason}): its files may be "
        "incomplete, so copy or download it again"
    )


def _unquantized(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that can be saved, which a model loaded from GGUF cannot."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    plain = AutoModelForCausalLM.from_config(model.config)
    plain.load_state_dict(model.state_dict())
    return plain


def set_bos(tokenizer: PreTrainedTokenizerBase, origin: str, bos: str | None) -> None:
    """Set the token that begins a document: ``bos`` if given, else the tokenizer's own, else EOS.

    Raises:
        ModelError: The tokenizer has no EOS, or no token ``bos``.
    """
    if tokenizer.eos_token is None:
        raise ModelError(
            f"the tokenizer of {origin} has no EOS token, so documents would never end: give it "
            "one in its tokenizer_config.json, or take another model"
        )
    chosen = bos or tokenizer.bos_token or tokenizer.eos_token
    if chosen not in tokenizer.get_vocab():
        raise ModelError(
            f"the tokenizer of {origin} has no token {chosen!r} to begin documents with: set `bos` "
            "in the tier file to a token of its vocabulary"
        )
    tokenizer.bos_token = chosen


# ---------------------------------------------------------------- passages


def passages(p: Passages, tokenizer: PreTrainedTokenizerBase, name: str) -> pd.DataFrame:
    """Passages of ``prefix + suffix`` tokens, with the columns of ``prepare_model``'s passages.

    Raises:
        TextError: There are fewer than ``dev + held_out``.
    """
    length, number = p.prefix + p.suffix, p.dev + p.held_out
    rng = np.random.default_rng(p.seed)
    ids = _memorized(name, length) if p.source == "pythia" else _public(p, tokenizer, length)
    chosen = [ids[i] for i in rng.permutation(len(ids))[:number]]
    if len(chosen) < number:
        raise text.TextError(
            f"there are {len(chosen)} passages of {length} tokens from {p.source!r} and {number} "
            "are needed: lower passages.held_out"
        )
    return pd.DataFrame(
        {
            "passage": range(number),
            "split": ["dev"] * p.dev + ["held_out"] * p.held_out,
            "work": p.source,
            "prefix": [x[: p.prefix] for x in chosen],
            "suffix": [x[p.prefix :] for x in chosen],
            "text": [tokenizer.decode(x) for x in chosen],
            "suffix_text": [tokenizer.decode(x[p.prefix :]) for x in chosen],
        }
    )


def _public(p: Passages, tokenizer: PreTrainedTokenizerBase, length: int) -> list[list[int]]:
    documents = [d.text for d in text.documents(p.source, PASSAGE_CHARS)]
    ids = models.token_ids(tokenizer, documents)
    return [x[:length] for x in ids if len(x) >= length]


def _memorized(name: str, length: int) -> list[list[int]]:
    """Sequences that a Pythia model memorised (Biderman et al., 2023), as token ids."""
    import datasets  # slow to import

    # the split of pythia-1.4b-deduped is deduped.1.4b, that of pythia-1.4b is duped.1.4b
    size, _, deduped = Path(name).name.removeprefix("pythia-").partition("-")
    split = f"{'deduped' if deduped else 'duped'}.{size}"
    try:
        rows = datasets.load_dataset(MEMORIZED, split=split, revision=MEMORIZED_REVISION)
    except Exception as error:  # datasets and the hub share no base class
        raise ModelError(
            f"the split {split!r} of {MEMORIZED} cannot be read ({type(error).__name__}): check "
            "the network; models other than Pythia's take passages of public works"
        ) from error
    return [list(x)[:length] for x in rows["tokens"] if len(x) >= length]
