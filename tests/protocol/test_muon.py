"""Muon beside torch's own, and what orthogonal means."""

import pytest
import torch

from nbutils.protocol.muon import Muon, orthogonal

SHAPES = [(24, 8), (8, 24), (24, 8), (16, 16)]


def steps(made: type[torch.optim.Optimizer], number: int, **options: object) -> list[torch.Tensor]:
    """Weights after some steps, with gradients that change from step to step."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    optimizer = made(weights, lr=0.05, **options)
    for _ in range(number):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_steps_are_those_of_torch(precision: torch.dtype) -> None:
    """torch's iterations are bfloat16, so float32 agrees to its rounding only."""
    ours = steps(Muon, 5, precision=precision)
    theirs = steps(torch.optim.Muon, 5, weight_decay=0.0)
    near = 1e-2 if precision == torch.float32 else 2e-3
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() < near * other.norm()


@pytest.mark.parametrize("shape", [(3, 24, 8), (2, 8, 24), (1, 16, 16)])
def test_singular_values_are_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    made = orthogonal(1e4 * torch.randn(shape), torch.float32)
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_a_weight_without_gradient_stays() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 4))
    Muon([weight], 0.1).step()
    assert torch.equal(weight.detach(), torch.ones(4, 4))


def test_a_state_is_restored() -> None:
    weight = torch.nn.Parameter(torch.eye(4))
    first, second = Muon([weight], 0.1), Muon([weight], 0.1)
    weight.grad = torch.randn(4, 4)
    first.step()
    second.load_state_dict(first.state_dict())
    one, other = (o.state[weight]["momentum"] for o in (first, second))
    assert torch.equal(one, other)
