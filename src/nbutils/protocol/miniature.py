"""Miniatures: small copies of a model's architecture, in float32 and with random weights.

A copy has one layer of each kind, narrow attention windows, a small vocabulary and few experts. It
is small enough to test what holds for the architecture.
"""

import copy
import math

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from nbutils.errors import first_line
from nbutils.protocol import models
from nbutils.protocol.models import ModelError

WINDOW = 16
TOKENS = 512
EXPERTS = 2
LIMIT = 2_500_000_000
"""Largest number of weights of a copy."""
ATTEMPTS = (("layers", "tokens", "experts"), ("layers", "tokens"), ("layers",), ())
"""What is reduced beside the windows: the first attempt that the architecture's code accepts."""


def small_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A miniature of a model, on the model's device if its memory suffices, else on the CPU.

    The state of the global random number generator is preserved.

    Raises:
        ModelError: The model's code accepts no configuration that is small enough.
    """
    reason = ""
    for cuts in ATTEMPTS:
        try:
            config = cut(model, cuts)
            if model.num_parameters() > LIMIT and size(model, config) > LIMIT:
                reason = f"{size(model, config):,} weights"
                continue
            with torch.random.fork_rng():
                torch.manual_seed(0)
                small = type(model)._from_config(config, dtype=torch.float32).eval()
            _rescale(small)
            try:
                small = small.to(model.device)
            except torch.OutOfMemoryError:
                small = small.to("cpu")
            with torch.no_grad():
                small(input_ids=torch.full((1, 2), 3, device=small.device), use_cache=False)
        except Exception as error:  # an architecture's own code may raise anything
            reason = f"{type(error).__name__}: {first_line(error)}"[:200]
            continue
        return small
    architecture = model.config.model_type
    raise ModelError(f"no small copy of a {architecture} model can be made ({reason})")


def size(model: PreTrainedModel, config: PreTrainedConfig) -> int:
    """Number of weights that a model with this configuration has."""
    with torch.device("meta"):
        return int(type(model)._from_config(copy.deepcopy(config)).num_parameters())


def cut(model: PreTrainedModel, reduced: tuple[str, ...] = ATTEMPTS[0]) -> PreTrainedConfig:
    """A copy of a model's configuration with smaller windows, and less of what ``reduced`` names.

    A window that holds the longest document stays as it is, since it has no effect.
    """
    config = copy.deepcopy(model.config)
    text = config.get_text_config()
    depth = text.num_hidden_layers
    layers = layers_of_each_kind(model) if "layers" in reduced else depth
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:layers])
        if type(value) is not int:
            continue
        is_window = any(word in name for word in ("window", "chunk", "local_attention"))
        if is_window and "layers" not in name and WINDOW < value < models.context(model):
            setattr(text, name, WINDOW)
        if "tokens" in reduced and "vocab_size" in name:
            setattr(text, name, min(value, TOKENS))
        if "tokens" in reduced and name.endswith("token_id") and value >= TOKENS:
            setattr(text, name, 1)
        if "experts" in reduced and "experts" in name:
            setattr(text, name, min(value, EXPERTS))
        if "experts" in reduced and name in ("n_group", "topk_group"):
            setattr(text, name, 1)
    text.num_hidden_layers = layers
    return config


def layers_of_each_kind(model: PreTrainedModel) -> int:
    """How many first layers include every kind; all layers where no stack of them is found."""
    depth: int = model.config.get_text_config().num_hidden_layers
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not stacks:
        return depth
    settings = [_settings(layer) for layer in stacks[0]]
    # the number of a layer makes no kind of its own
    numbers = {
        key
        for key in set().union(*settings)
        if all(type(s[key]) is int and s[key] == n for n, s in enumerate(settings) if key in s)
    }
    kinds = [frozenset(i for i in layer.items() if i[0] not in numbers) for layer in settings]
    return next(n for n in range(1, depth + 1) if set(kinds[:n]) == set(kinds))


def _settings(layer: nn.Module) -> dict[tuple[str, str], object]:
    """The classes and settings of a layer's modules, and the shapes of its weights."""
    settings: dict[tuple[str, str], object] = {}
    for name, module in layer.named_modules():
        settings[name, "class"] = type(module).__name__
        plain = {k: v for k, v in vars(module).items() if isinstance(v, (str, bool, int))}
        settings |= {(name, k): v for k, v in plain.items()}
    return settings | {(n, "shape"): tuple(w.shape) for n, w in layer.named_parameters()}


@torch.no_grad()
def _rescale(model: PreTrainedModel) -> None:
    """Scale random matrices so that the effect of every layer is visible in the logits."""
    for weight in model.parameters():
        deviation = weight.std().item() if weight.ndim > 1 else 0.0
        if deviation > 0:
            weight.mul_(1 / (math.sqrt(weight.shape[-1]) * deviation))
