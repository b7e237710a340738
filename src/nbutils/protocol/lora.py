"""LoRA: an adapter on every linear layer of a student that can take one (Hu et al., 2022)."""

import json
import re
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nbutils.config.schema import SelfTrain
from nbutils.errors import UserError, first_line
from nbutils.protocol import forward, miniature, models


class AdapterError(UserError):
    """A model takes no adapter."""


def with_adapter(model: PreTrainedModel, p: SelfTrain) -> PeftModel:
    """The student with an untrained LoRA adapter on every linear layer that can have one.

    Raises:
        AdapterError: The model's layers take no adapter.
    """
    assert p.lora is not None
    torch.manual_seed(p.seed)
    try:
        config = LoraConfig(
            r=p.lora.rank,
            lora_alpha=p.lora.alpha,
            target_modules="all-linear",
            exclude_modules=_unsupported(model) or None,
            task_type="CAUSAL_LM",
        )
        wrapped = get_peft_model(model, config)
        with torch.no_grad():
            forward.logits(wrapped, torch.full((1, 2), 3, device=model.device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # peft and a model's own code may raise anything
        raise AdapterError(
            f"a {model.config.model_type} model takes no LoRA adapter ({first_line(error)}): use "
            "method full"
        ) from error
    return wrapped


def _unsupported(model: PreTrainedModel) -> list[str]:
    """Linear layers on which an adapter has no effect or fails, by their names within a layer.

    Of some, the model uses the weight without calling the forward pass (Mamba's ``dt_proj``); some
    return more than one tensor (routers of experts). A pass through a small copy of the
    architecture shows both. The last projection of a state-space layer is always included, because
    only the kernels of accelerators bypass its forward pass.
    """
    small = miniature.small_copy(model)
    linear = {n: m for n, m in small.named_modules() if isinstance(m, (nn.Linear, Conv1D))}
    returns_tensor: dict[str, bool] = {}
    for name, module in linear.items():
        module.register_forward_hook(
            lambda _, inputs, output, name=name: returns_tensor.update(
                {name: isinstance(output, torch.Tensor)}
            )
        )
    ids = torch.arange(16, device=small.device)[None] % models.embedding_rows(small)
    forward.logits(small, ids).sum().backward()
    unsupported = {
        name
        for name, module in linear.items()
        if not returns_tensor.get(name, module.weight.grad is None)
        or (name.endswith("out_proj") and _is_state_space(small.get_submodule(name[:-9])))
    }
    return sorted({re.sub(r"^.*\.\d+\.", "", name) for name in unsupported})


def _is_state_space(module: nn.Module) -> bool:
    return hasattr(module, "A_log") and hasattr(module, "D")


def save(wrapped: PeftModel, folder: Path) -> None:
    """Write an adapter folder that is the same everywhere: no local paths, lists in order."""
    wrapped.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # the run's manifest documents the adapter
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["base_model_name_or_path"] = None
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=1, sort_keys=True), "utf-8")
