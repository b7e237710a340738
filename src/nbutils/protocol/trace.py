"""Trajectories: utility and extraction during a full fine-tune."""

from pathlib import Path

import pandas as pd

from nbutils.config.schema import Trace
from nbutils.errors import ParameterError
from nbutils.protocol import measure_extraction, measure_utility, models, self_train, training
from nbutils.runs.types import Progress


def run(p: Trace, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *trace*: fine-tune as *self-train* does, and measure after each step of ``points``.

    A measurement draws no random number and does not change the weights. So the last point is the
    model that *self-train* saves, up to the rounding of a student in 16 bits.

    Writes ``utility.parquet`` and ``extraction.parquet``: the columns of those stages, and ``step``
    (0 is the untouched student).

    Raises:
        ParameterError: A point lies beyond the last step, or the method is not ``full``.
        TrainingError: No document of the corpus has text, or the loss is not finite.
    """
    if p.method != "full" or max(p.points) > p.recipe.steps:
        raise ParameterError(
            f"a trace needs method 'full' and points within the {p.recipe.steps} steps of its "
            f"recipe; this one has method {p.method!r} and a point at step {max(p.points)}"
        )
    model, tokenizer, rows = self_train.read(inputs, p.recipe, "float32")
    passages = pd.read_parquet(inputs["base"] / "passages.parquet")
    begin = models.bos_policy(inputs["base"]).scoring
    bos = measure_extraction.begins_with(inputs["base"], tokenizer)
    utilities: list[pd.DataFrame] = []
    extractions: list[pd.DataFrame] = []

    def measure(step: int) -> None:
        was_training = model.training
        model.eval()
        scored = measure_utility.score(model, tokenizer, inputs["suite"], p.items, begin)
        utilities.append(scored.assign(step=step))
        extractions.append(measure_extraction.rows(model, passages, bos).assign(step=step))
        model.train(was_training)

    def watch(share: float) -> None:
        step = round(share * p.recipe.steps)
        if step in p.points:
            measure(step)
        progress(share)

    measure(0)
    training.fit(model, rows, p.recipe, p.seed, watch, precision=p.precision)
    pd.concat(utilities).to_parquet(out / "utility.parquet", index=False)
    pd.concat(extractions).to_parquet(out / "extraction.parquet", index=False)


# --- Supporting code -------------------------------------------------------------------------
