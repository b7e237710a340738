"""Compute a run: call the function of its stage, in this process or in several."""

from pathlib import Path

from nbutils.protocol import stages
from nbutils.runs.types import Computed, Progress, Run


def compute(
    run: Run, inputs: dict[str, Path], out: Path, threads: int, progress: Progress
) -> Computed:
    """Compute a run into the folder ``out``; return its precision and the digest of its code."""
    import torch  # slow to import, and neither planning nor the command line's help needs it

    from nbutils.protocol import models, processes

    torch.set_num_threads(threads)
    if getattr(run.params, "processes", 1) > 1:
        processes.launch(run.stage, run.params, inputs, out, progress)
    else:
        stages.stage_function(run.stage)(run.params, inputs, out, progress)
    precision = getattr(run.params, "precision", None) or models.computed_in(
        [out, *inputs.values()]
    )
    return Computed(precision, stages.code_digest(run.stage))
