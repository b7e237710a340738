"""Muon: momentum whose updates are made orthogonal by Newton-Schulz iterations.

Source: Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks". torch's own
implementation iterates one matrix after another, in bfloat16, which takes a processor without
bfloat16 arithmetic several times as long as float32. Here all matrices of one shape are iterated
together, in the precision of the training.
"""

import math
from collections.abc import Iterable

import torch

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and without weight decay, for matrices."""

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """``precision`` is that of the Newton-Schulz iterations."""
        super().__init__(params, {"lr": lr})
        self._precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update all matrices that have a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape.setdefault(weight.shape, []).append(weight)
            for (rows, columns), weights in by_shape.items():
                updates = orthogonal(torch.stack(list(map(self._update, weights))), self._precision)
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                for weight, update in zip(weights, updates, strict=True):
                    weight.add_(update, alpha=-rate)

    def _update(self, weight: torch.nn.Parameter) -> torch.Tensor:
        """The gradient with Nesterov momentum."""
        assert weight.grad is not None
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: torch.Tensor = state["momentum"]
        momentum.lerp_(weight.grad, 1 - MOMENTUM)
        return weight.grad.lerp(momentum, MOMENTUM)


def orthogonal(matrices: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """The nearest orthogonal matrices, roughly: all singular values near 1; ``[number, m, n]``."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(precision)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
