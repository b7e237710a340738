"""Miniatures: a small copy of a model's architecture, in float32 and with random weights.

What holds for an architecture shows in a copy that has one layer of each kind, narrow windows, few
tokens and few experts.
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
"""A copy has no more weights."""
ATTEMPTS = (("layers", "tokens", "experts"), ("layers", "tokens"), ("layers",), ())
"""What is cut, until the architecture's own code takes it; windows always are."""


def shrunk(model: PreTrainedModel) -> PreTrainedModel:
    """A miniature of a model, on its device where there is room.

    Random numbers of others are left alone.

    Raises:
        ModelError: Its code takes no configuration that is small enough.
    """
    why = ""
    for cuts in ATTEMPTS:
        try:
            config = cut(model, cuts)
            if model.num_parameters() > LIMIT and size(model, config) > LIMIT:
                why = f"{size(model, config):,} weights"
                continue
            with torch.random.fork_rng():
                torch.manual_seed(0)
                made = type(model)._from_config(config, dtype=torch.float32).eval()
            _enliven(made)
            try:
                made = made.to(model.device)
            except torch.OutOfMemoryError:
                made = made.to("cpu")
            with torch.no_grad():
                made(input_ids=torch.full((1, 2), 3, device=made.device), use_cache=False)
        except Exception as error:  # an architecture's own code may raise anything
            why = f"{type(error).__name__}: {first_line(error)}"[:200]
            continue
        return made
    kind = model.config.model_type
    raise ModelError(f"no small copy of a {kind} model can be made ({why})")


def size(model: PreTrainedModel, config: PreTrainedConfig) -> int:
    """How many weights a model of a configuration would have."""
    with torch.device("meta"):
        return int(type(model)._from_config(copy.deepcopy(config)).num_parameters())


def cut(model: PreTrainedModel, what: tuple[str, ...] = ATTEMPTS[0]) -> PreTrainedConfig:
    """A copy of a model's configuration, cut.

    A window that holds the longest document stays: it never shuts anything out.
    """
    config = copy.deepcopy(model.config)
    text = config.get_text_config()
    depth = text.num_hidden_layers
    fewer = layers_of_each_kind(model) if "layers" in what else depth
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:fewer])
        if type(value) is not int:
            continue
        reach = any(word in name for word in ("window", "chunk", "local_attention"))
        if reach and "layers" not in name and WINDOW < value < models.context(model):
            setattr(text, name, WINDOW)
        if "tokens" in what and "vocab_size" in name:
            setattr(text, name, min(value, TOKENS))
        if "tokens" in what and name.endswith("token_id") and value >= TOKENS:
            setattr(text, name, 1)
        if "experts" in what and "experts" in name:
            setattr(text, name, min(value, EXPERTS))
        if "experts" in what and name in ("n_group", "topk_group"):
            setattr(text, name, 1)
    text.num_hidden_layers = fewer
    return config


def layers_of_each_kind(model: PreTrainedModel) -> int:
    """How many of the first layers hold one of each kind; all where no stack of layers is found."""
    depth: int = model.config.get_text_config().num_hidden_layers
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not stacks:
        return depth
    made_of = [_made_of(layer) for layer in stacks[0]]
    # what counts layers is no difference between them
    numbers = {
        key
        for key in set().union(*made_of)
        if all(type(d[key]) is int and d[key] == n for n, d in enumerate(made_of) if key in d)
    }
    kinds = [frozenset(i for i in each.items() if i[0] not in numbers) for each in made_of]
    return next(n for n in range(1, depth + 1) if set(kinds[:n]) == set(kinds))


def _made_of(layer: nn.Module) -> dict[tuple[str, str], object]:
    """The parts of a layer, their settings and the shapes of their weights."""
    found: dict[tuple[str, str], object] = {}
    for name, part in layer.named_modules():
        found[name, "class"] = type(part).__name__
        plain = {k: v for k, v in vars(part).items() if isinstance(v, (str, bool, int))}
        found |= {(name, k): v for k, v in plain.items()}
    return found | {(n, "shape"): tuple(w.shape) for n, w in layer.named_parameters()}


@torch.no_grad()
def _enliven(model: PreTrainedModel) -> None:
    """Scale random weights so that no layer fades: what leaks through one shows in the logits."""
    for weight in model.parameters():
        spread = weight.std().item() if weight.ndim > 1 else 0.0
        if spread > 0:
            weight.mul_(1 / (math.sqrt(weight.shape[-1]) * spread))
