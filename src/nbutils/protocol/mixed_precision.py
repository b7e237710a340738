"""Mixed precision: a copy of the model in 16 bits computes the gradients of float32 weights.

Source: Micikevicius et al. (2018), "Mixed precision training". Updates are much smaller than the
weights that they change, and 16 bits would round most of them away; so they are added to the
float32 weights, from which the copy is made anew after each step.
"""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SDPA, FLOAT32_SDPA = "sdpa", "sdpa_in_float32"


class Copy:
    """The model that reads in training: the trained model itself, or its copy in 16 bits.

    Gradients of a copy's weights are added to those of the trained model's, and then freed.
    """

    def __init__(self, trained: PreTrainedModel, precision: torch.dtype) -> None:
        """Copy a model whose trained weights are float32, unless that is the ``precision``."""
        self.trained = self.model = trained
        self._pairs: list[tuple[torch.nn.Parameter, torch.nn.Parameter]] = []
        if precision == torch.float32:
            return
        frozen = (w for w in trained.parameters() if not w.requires_grad and w.dtype == precision)
        self.model = copy.deepcopy(trained, {id(w): w for w in frozen})  # these need no copy
        _convert(self.model, precision)
        for weight, copied in zip(trained.parameters(), self.model.parameters(), strict=True):
            if weight.requires_grad:
                self._pairs.append((weight, copied))
                copied.register_post_accumulate_grad_hook(partial(_hand_over, weight))
        if trained.device.type == "cpu" and self.model.config._attn_implementation == SDPA:
            self.model.set_attn_implementation(FLOAT32_SDPA)

    def drop_gradients(self) -> None:
        """Forget what was computed of a step."""
        self.trained.zero_grad()
        self.model.zero_grad()

    def refresh(self) -> None:
        """Copy the weights again, after a step of the optimizers."""
        for weight, copied in self._pairs:
            copied.data.copy_(weight.data)


def _convert(model: PreTrainedModel, precision: torch.dtype) -> None:
    """Convert weights and buffers to the types that they have in a model loaded in a precision.

    Architectures keep some of them, such as the frequencies of rotary positions, in float32.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft
    if base is model:
        with torch.device("meta"):
            loaded = type(base)._from_config(copy.deepcopy(base.config), dtype=precision)
        types = {name: x.dtype for name, x in _tensors(loaded)}
        kept = base._keep_in_fp32_modules_strict or ()
        for name, tensor in _tensors(base):
            if not any(part in name for part in kept):
                tensor.data = tensor.data.to(types.get(name, tensor.dtype))
    else:  # the base was loaded in its precision
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.to(precision)


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights and buffers by name."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _hand_over(weight: torch.nn.Parameter, copied: torch.nn.Parameter) -> None:
    """Add the gradient of a copied weight to that of the trained one."""
    assert copied.grad is not None
    gradient = copied.grad.to(weight.dtype)
    weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
    copied.grad = None


def _float32_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in float32 within a 16-bit model: on CPUs its backward pass is twice as fast."""
    mask = attention_mask
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    output, weights = sdpa_attention_forward(
        module, query.float(), key.float(), value.float(), mask, **options
    )
    return output.to(query.dtype), weights


AttentionInterface.register(FLOAT32_SDPA, _float32_sdpa)
AttentionMaskInterface.register(FLOAT32_SDPA, sdpa_mask)
