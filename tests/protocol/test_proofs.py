"""Proofs: what is found of a model, and that it stays with the model."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from nbutils.config.schema import FetchModel
from nbutils.protocol import fetch_model, models, proofs
from nbutils.protocol.forward import PLAIN, Shortcuts
from support import tiny, zoo

EVERY = Shortcuts(packed=True, tree=True, memory="past_key_values", positions=True, shrunk=True)


def fetch(architecture: str, into: Path) -> Path:
    """A model of somebody's, in the store."""
    folder, out = into / "theirs", into / "ours"
    folder.mkdir()
    out.mkdir()
    models.save(zoo.make(architecture), tiny.tokenizer(), folder)
    p = FetchModel.model_validate({"origin": f"folder:{folder}"})
    fetch_model.run(p, {}, out, tiny.silent)
    return out


def test_the_finding_stays_with_a_model_and_what_is_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = fetch("lfm2", tmp_path)
    monkeypatch.setattr(proofs, "find", None)  # whoever looks again fails
    model, tokenizer = models.load(fetched, fetched)
    expected = Shortcuts(memory="past_key_values", positions=True)
    assert proofs.shortcuts(model) == expected
    models.save(model, tokenizer, tmp_path / "trained")
    assert proofs.shortcuts(models.load(tmp_path / "trained", tmp_path / "trained")[0]) == expected


def test_another_version_of_transformers_is_tried_anew() -> None:
    model = zoo.make("llama")
    proofs.note(PLAIN, model)
    assert proofs.shortcuts(model) == PLAIN
    model.config.shortcuts["transformers"] = "4.0.0"
    assert proofs.shortcuts(model) == EVERY
    assert model.config.shortcuts["transformers"] == transformers.__version__


def test_facts_tell_how_far_each_shortcut_was(tmp_path: Path) -> None:
    facts = json.loads((fetch("mistral", tmp_path) / "facts.json").read_text("utf-8"))
    checks = facts["shortcuts"]
    assert [name for name, check in checks.items() if not check["right"]] == ["tree"]
    assert checks["tree"]["copy"] > 100 * checks["tree"]["copy_bound"]
    assert checks["packed"]["copy"] < checks["packed"]["copy_bound"]
    assert checks["packed"]["model"] < checks["packed"]["model_bound"]


@pytest.mark.parametrize(("window", "tree"), [(1024, True), (200, False)])
def test_a_window_counts_where_a_document_can_be_longer(window: int, tree: bool) -> None:
    """No probe is longer than 200 tokens: it is the copy's narrower window that shows the fault."""
    model = zoo.make("mistral", sliding_window=window, max_position_embeddings=1024)
    assert proofs.shortcuts(model).tree == tree


@pytest.mark.parametrize("architecture", ["llama", "granitemoe", "mistral", "bamba"])
def test_sixteen_bits_round_but_change_no_finding(architecture: str) -> None:
    model = zoo.make(architecture)
    assert proofs.find(model.to(torch.bfloat16)).shortcuts == proofs.find(model.float()).shortcuts


def test_a_search_leaves_random_numbers_and_the_model_alone() -> None:
    model = zoo.make("llama").train()
    before = [w.clone() for w in model.parameters()]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    proofs.find(model)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(w.grad is None for w in model.parameters())


def test_damaged_weights_take_the_plain_way() -> None:
    """Whoever reads them then says what is wrong with them."""
    model = zoo.make("llama")
    with torch.no_grad():
        next(model.parameters())[:] = float("nan")
    found = proofs.find(model)
    assert found.shortcuts == PLAIN
    assert {check["model"] for check in found.facts().values()} == {None}


def test_rows_are_tried_as_long_as_they_get() -> None:
    """Positions are looked up in a table of 128: a packed row or a tree is longer."""
    size = {"max_position_embeddings": 128, "attention_types": [[["global"], 2]]}
    found = proofs.find(zoo.make("gpt_neo", **size))
    assert not found.shortcuts.packed
    assert not found.shortcuts.tree
    assert "must match" in str(found.facts()["packed"]["why"])
