"""Trajectories: the untouched student at step 0, the fine-tuned one at the last."""

from pathlib import Path

import pandas as pd
import pytest

from nbutils.config.schema import (
    MeasureExtraction,
    MeasureUtility,
    PrepareSuite,
    SelfTrain,
    SuiteSize,
    Trace,
)
from nbutils.errors import ParameterError
from nbutils.protocol import measure_extraction, measure_utility, prepare_suite, self_train, trace
from support import tiny

RECIPE = tiny.recipe(steps=4, learning_rate=0.05)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student with passages, a corpus and a small suite."""
    place = tmp_path_factory.mktemp("inputs")
    base = tiny.save("llama", place / "base")
    passages = pd.DataFrame(
        {"passage": [0, 1], "split": ["dev", "held_out"], "prefix": [[5, 9], [7, 8]],
         "suffix": [[4, 6, 6], [4, 5, 6]]}
    )  # fmt: skip
    passages.to_parquet(base / "passages.parquet")
    for name in ("suite", "corpus"):
        (place / name).mkdir()
    size = SuiteSize(cloze=4, agreement=4, preposition=4)
    prepare_suite.run(PrepareSuite(size=size, max_chars=60), {}, place / "suite", tiny.silent)
    texts = pd.DataFrame({"text": list(tiny.SENTENCES)})
    texts.to_parquet(place / "corpus" / "corpus.parquet")
    paths = {"student": base, "base": base}
    return paths | {name: place / name for name in ("suite", "corpus")}


def test_ends_are_the_untouched_and_the_fine_tuned_student(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    trace.run(Trace(recipe=RECIPE, points=[2, 4]), inputs, tmp_path, tiny.silent)
    used = pd.read_parquet(tmp_path / "utility.parquet")
    given = pd.read_parquet(tmp_path / "extraction.parquet")
    assert set(used.step) == set(given.step) == {0, 2, 4}
    trained = tmp_path / "trained"
    trained.mkdir()
    self_train.run(SelfTrain(recipe=RECIPE), inputs, trained, tiny.silent)
    for step, model in ((0, inputs["student"]), (4, trained)):
        mine = inputs | {"model": model}
        out = tmp_path / str(step)
        out.mkdir()
        measure_utility.run(MeasureUtility(), mine, out, tiny.silent)
        measure_extraction.run(MeasureExtraction(), mine, out, tiny.silent)
        for found, file in ((used, "utility"), (given, "extraction")):
            alone = found[found.step == step].drop(columns="step").reset_index(drop=True)
            pd.testing.assert_frame_equal(alone, pd.read_parquet(out / f"{file}.parquet"))
    assert not used[used.step == 0].margin.equals(used[used.step == 4].margin)


def test_a_point_beyond_the_end_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"within the 4 steps.*step 5"):
        trace.run(Trace(recipe=RECIPE, points=[5]), inputs, tmp_path, tiny.silent)
