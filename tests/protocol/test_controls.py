"""Controls: real text that is held out, shuffled tokens, noise as large as an update."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch

from nbutils.config.schema import Mixture, PerturbWeights, RealCorpus, SelfTrain, ShuffleCorpus
from nbutils.protocol import controls, models, self_train, text
from support import tiny


def corpus(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    pd.DataFrame({"doc": range(len(texts)), "text": texts}).to_parquet(folder / "corpus.parquet")
    return folder


def real(place: Path, student: Path, tokens: int, seed: int = 0) -> pd.DataFrame:
    mixture = Mixture.model_validate({"speeches": 0.5, "scripture": 0.5})
    p = RealCorpus(mixture=mixture, max_chars=tiny.MAX_CHARS, tokens=tokens, seed=seed)
    controls.run_real_corpus(p, {"student": student}, place, tiny.silent)
    return pd.read_parquet(place / "corpus.parquet")


def test_real_text_is_of_the_control_split_in_the_students_mixture(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    found = real(tmp_path, folders["llama"], tokens=6000)
    split = {d: {x.text for x in text.documents(d, tiny.MAX_CHARS) if x.split == "control"}
             for d in ("speeches", "scripture")}  # fmt: skip
    sizes = {d: found.n_tokens[found.text.isin(split[d])].sum() for d in split}
    assert found.text.isin(split["speeches"] | split["scripture"]).all()
    assert found.text.is_unique
    assert all(3000 <= size < 3400 for size in sizes.values())
    assert list(found.doc) == list(range(len(found)))


def test_real_text_differs_by_seed(folders: dict[str, Path], tmp_path: Path) -> None:
    one, same, other = (set(real(tmp_path, folders["llama"], 900, s).text) for s in (0, 0, 1))
    assert one == same != other


def test_real_text_is_finite(folders: dict[str, Path], tmp_path: Path) -> None:
    found = real(tmp_path, folders["llama"], tokens=10**9)
    held = [x for d in ("speeches", "scripture") for x in text.documents(d, tiny.MAX_CHARS)]
    assert sorted(found.text) == sorted(x.text for x in held if x.split == "control")


def test_shuffling_keeps_the_tokens_of_each_document(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    inputs = {"corpus": corpus(tmp_path / "in", list(tiny.SENTENCES)), "student": folders["llama"]}
    controls.run_shuffle_corpus(ShuffleCorpus(seed=3), inputs, tmp_path, tiny.silent)
    found = pd.read_parquet(tmp_path / "corpus.parquet")
    for before, after in zip(tiny.SENTENCES, found.text, strict=True):
        assert after != before
        assert Counter(after) == Counter(before)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_noise_is_as_large_as_the_update_and_points_elsewhere(
    architecture: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    base, trained, out = folders[architecture], tmp_path / "trained", tmp_path / "out"
    trained.mkdir()
    out.mkdir()
    read = corpus(tmp_path / "in", list(tiny.SENTENCES))
    recipe = tiny.recipe(steps=2, learning_rate=0.01)
    self_train.run(SelfTrain(recipe=recipe), {"student": base, "corpus": read}, trained, print)
    inputs = {"student": base, "trained": trained}
    controls.run_perturb_weights(PerturbWeights(seed=1), inputs, out, tiny.silent)
    before, update, noise = (
        dict(models.load(f, base)[0].named_parameters()) for f in (base, trained, out)
    )
    for name, weight in before.items():
        moved, random = (after[name] - weight for after in (update, noise))
        assert random.norm().item() == pytest.approx(moved.norm().item(), rel=1e-2, abs=1e-6)
        if weight.numel() > 500:
            cosine = torch.cosine_similarity(moved.flatten(), random.flatten(), dim=0)
            assert abs(cosine.item()) < 0.2


def test_at_learning_rate_zero_no_weight_moves(folders: dict[str, Path], tmp_path: Path) -> None:
    base = folders["qwen3"]
    inputs = {"student": base, "corpus": corpus(tmp_path / "in", list(tiny.SENTENCES))}
    p = SelfTrain(recipe=tiny.recipe(learning_rate=0.0, weight_decay=0.1))
    self_train.run(p, inputs, tmp_path, tiny.silent)
    after = dict(models.load(tmp_path, base)[0].named_parameters())
    for name, weight in models.load(base, base)[0].named_parameters():
        assert torch.equal(weight, after[name])
