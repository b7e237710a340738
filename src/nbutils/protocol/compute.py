"""What computes a run: the function of its stage, in this process or in several."""

from pathlib import Path

from nbutils.protocol import stages
from nbutils.runs.types import Computed, Progress, Run


def compute(
    run: Run, inputs: dict[str, Path], out: Path, threads: int, progress: Progress
) -> Computed:
    """Compute a run into a folder, and say in which precision and by which code."""
    import torch  # heavy: planning and the command line's help must not pay for it

    from nbutils.protocol import models, processes

    torch.set_num_threads(threads)
    if getattr(run.params, "processes", 1) > 1:
        processes.launch(run.stage, run.params, inputs, out, progress)
    else:
        stages.stage_function(run.stage)(run.params, inputs, out, progress)
    return Computed(models.computed_in([out, *inputs.values()]), stages.code_digest(run.stage))
