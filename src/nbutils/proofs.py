"""Proofs: which shortcuts give what the plain pass gives, found out on the model at hand.

A shortcut is right for an architecture or it is not, so it is first tried in float32 on a small
copy of the architecture: as few layers as hold one of each kind, windows cut to ``WINDOW`` tokens,
random weights. Neither a name nor a signature tells whether a layer reads a row as it lies, or a
token's own past alone. Then it is tried with the real weights, in the precision in which they
compute.

The finding travels with the weights, in the model's configuration. It holds for one version of
transformers and one kind of device, and is made again for another.
"""

import copy
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from nbutils import models, passes
from nbutils.models import ModelError
from nbutils.params import first_line
from nbutils.passes import MEMORIES, PLAIN, Reader, Shortcuts

KEY = "shortcuts"
"""Where a model's configuration holds what was found."""
TOLERANCE = 1e-4
"""Largest difference of logits in float32, as a share of the largest one, if that is above one."""
ROUNDINGS = 4
"""In 16 bits: so many units in the last place of the largest logit."""
SHARE = 0.75
"""In 16 bits: so many of the tokens may not differ by more. A rounding sends single tokens to other
experts, which is right as well."""
WINDOW = 16
VOCABULARY = 512
LENGTHS = (41, 23, 7)
"""Tokens of the documents that the copy reads; the first is longer than two windows."""
FEWER = (29, 21, 14)
"""Tokens of those that the model itself reads: 64 together."""


@dataclass(frozen=True)
class Difference:
    """How far a shortcut is from the plain pass, as a share of the largest logit.

    Infinite where it could not be tried; then ``why`` holds what the model said.
    """

    value: float
    why: str = ""


@dataclass(frozen=True)
class Finding:
    """Which shortcuts are right, and how far each was from the plain pass.

    ``copied`` are the differences of the small copy, ``real`` those of the model itself, which may
    reach ``bound``; both by the names of the table in ``passes``, and ``plain`` for the plain pass
    itself over several rows, or over the beginning of one.
    """

    shortcuts: Shortcuts
    copied: dict[str, Difference]
    real: dict[str, Difference]
    bound: float

    def facts(self) -> dict[str, dict[str, float | bool | str | None]]:
        """The finding as JSON has it: a mapping for each shortcut."""

        def number(found: Difference | None) -> float | None:
            return found.value if found and math.isfinite(found.value) else None

        return {
            name: {
                "right": bool(getattr(self.shortcuts, name)),
                "copy": number(self.copied.get(name)),
                "copy_bound": TOLERANCE,
                "model": number(self.real.get(name)),
                "model_bound": self.bound,
                "why": next((d[name].why for d in (self.copied, self.real) if name in d), "")
                or None,
            }
            for name in ("packed", "tree", "memory", "shrunk")
        }


# ---------------------------------------------------------------- what was found before


def of(model: PreTrainedModel) -> Shortcuts:
    """The shortcuts that are right for a model: as found before, or found now.

    Raises:
        ModelError: It is no causal language model.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft
    record = dict(getattr(inner.config, KEY, None) or {})
    if {name: record.pop(name, None) for name in _where(inner)} == _where(inner):
        return Shortcuts(**record)
    found = find(inner).shortcuts
    note(found, inner)
    return found


def note(found: Shortcuts, model: PreTrainedModel) -> None:
    """Record what was found in the configuration of a model, with which it is saved."""
    setattr(model.config, KEY, asdict(found) | _where(model))


def write(model: PreTrainedModel, folder: Path) -> None:
    """Write what was noted of a model to the configuration with which it was saved."""
    path = folder / "config.json"
    values = json.loads(path.read_text("utf-8")) | {KEY: getattr(model.config, KEY)}
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", "utf-8")


def _where(model: PreTrainedModel) -> dict[str, str]:
    """What a finding holds for: kernels differ from one kind of device to another."""
    return {"transformers": transformers.__version__, "device": model.device.type}


# ---------------------------------------------------------------- finding out


@torch.no_grad()
def find(model: PreTrainedModel) -> Finding:
    """Try every shortcut on a small copy of a model's architecture, then on the model itself.

    What cannot be tried is not right. Random numbers of others are left alone.

    Raises:
        ModelError: What a model says of a token depends on what stands behind it, or beside it in
            the batch: it is no causal language model.
    """
    floor = TOLERANCE
    if model.dtype != torch.float32:
        floor = ROUNDINGS * torch.finfo(model.dtype).eps

    def bound(noise: float) -> float:
        # In 16 bits the plain pass, too, depends on how many rows it reads. What is measured of
        # either varies by itself: twice as much is no difference.
        return max(floor, 2 * noise) if math.isfinite(noise) else floor

    with _still(model), torch.random.fork_rng():
        torch.manual_seed(0)
        copied_model = small(model)
        first, copied = PLAIN, dict[str, Difference]()
        if copied_model is not None:
            first, copied = _try(copied_model, LENGTHS, lambda noise: TOLERANCE, MEMORIES)
            _refuse_unless_causal(model, copied["plain"], TOLERANCE)
            del copied_model  # it may be large
        memories = ((first.memory, first.positions),) if first.memory else ()
        second, real = _try(model, FEWER, bound, memories)
        if not copied:
            _refuse_unless_causal(model, real["plain"], 10 * floor)
    shortcuts = Shortcuts(
        packed=first.packed and second.packed,
        tree=first.tree and second.tree,
        memory=second.memory,
        positions=second.positions,
        shrunk=first.shrunk and second.shrunk,
    )
    return Finding(shortcuts, copied, real, bound(real["plain"].value))


def _refuse_unless_causal(model: PreTrainedModel, plain: Difference, bound: float) -> None:
    if plain.value <= bound:
        return
    kind = model.config.model_type
    if plain.why:
        raise ModelError(f"a {kind} model cannot read text as it is configured ({plain.why})")
    raise ModelError(
        f"a {kind} model is no causal language model: what it says of a token depends on what "
        f"stands behind it or in other rows (its logits change by {plain.value:.2g} of the "
        "largest); take a model that was trained to predict the next token"
    )


def _try(
    model: PreTrainedModel,
    lengths: tuple[int, ...],
    bound: Callable[[float], float],
    memories: tuple[tuple[str, bool], ...],
) -> tuple[Shortcuts, dict[str, Difference]]:
    """Try every shortcut on one model; ``bound`` tells what may differ, given what batches do."""
    probe = _Probe(model, lengths)
    share = 1.0 if model.dtype == torch.float32 else SHARE
    seen = {"plain": _difference(probe.plain, share)}
    limit = bound(seen["plain"].value)
    seen["packed"] = _difference(probe.packed, share)
    seen["tree"] = _difference(probe.tree, share)
    how, seen["memory"] = PLAIN, Difference(math.inf, "it remembers nothing")
    for name, positions in memories:
        tried = Shortcuts(memory=name, positions=positions)
        found = _difference(partial(probe.remembered, tried, shrink=False), share)
        if found.value < seen["memory"].value:
            seen["memory"] = found
        if found.value <= limit:
            how = tried
            break
    seen["shrunk"] = _difference(partial(probe.remembered, how, shrink=True), share)
    right = {name: found.value <= limit for name, found in seen.items()}
    return (
        Shortcuts(right["packed"], right["tree"], how.memory, how.positions, right["shrunk"]),
        seen,
    )


def _difference(check: Callable[[], torch.Tensor], share: float) -> Difference:
    """What a check measures; what it raises where a model cannot be read that way."""
    try:
        value = check().quantile(share).item()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model's own code may raise anything
        return Difference(math.inf, f"{type(error).__name__}: {first_line(error)}"[:200])
    return Difference(value if math.isfinite(value) else math.inf)


class _Probe:
    """Random documents, and what a model says of them when it reads each one alone."""

    def __init__(self, model: PreTrainedModel, lengths: tuple[int, ...]) -> None:
        limit = models.context(model)
        special = models.special_ids(model.config)
        usable = torch.tensor(
            [i for i in range(min(models.rows(model), 2**15)) if i not in special]
        )
        self.model = model
        self.documents = [
            usable[torch.randint(len(usable), (min(length, limit),))] for length in lengths
        ]

    @cached_property
    def alone(self) -> list[torch.Tensor]:
        """Logits of each document, read alone."""
        return [self._alone(document) for document in self.documents]

    @cached_property
    def scale(self) -> float:
        """The largest logit, or one."""
        return max(1.0, *(found.abs().max().item() for found in self.alone))

    def _alone(self, ids: torch.Tensor) -> torch.Tensor:
        return passes.logits(self.model, ids[None].to(self.model.device))[0].float()

    def _far(self, found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """Largest difference at each token, ``[tokens]``; both arguments ``[tokens, logits]``."""
        return (found.float() - expected).abs().amax(-1).cpu() / self.scale

    def plain(self) -> torch.Tensor:
        """Documents beside each other, padded at their ends; and the first half of one."""
        rows = nn.utils.rnn.pad_sequence(self.documents, batch_first=True, padding_value=1)
        found = passes.logits(self.model, rows.to(self.model.device))
        half = len(self.documents[0]) // 2
        each = [
            self._far(row[: len(alone)], alone)
            for row, alone in zip(found, self.alone, strict=True)
        ]
        return torch.cat(
            [self._far(self._alone(self.documents[0][:half]), self.alone[0][:half]), *each]
        )

    def packed(self) -> torch.Tensor:
        """Documents behind each other, in two rows of another order each."""
        orders = (range(len(self.documents)), range(len(self.documents))[::-1])
        ids = torch.stack([torch.cat([self.documents[i] for i in order]) for order in orders])
        places = [
            torch.cat([torch.arange(len(self.documents[i])) for i in order]) for order in orders
        ]
        place = self.model.device
        found = passes.logits(self.model, ids.to(place), torch.stack(places).to(place))
        each = []
        for row, order in zip(found, orders, strict=True):
            parts = row.split([len(self.documents[i]) for i in order])
            each += [self._far(p, self.alone[i]) for p, i in zip(parts, order, strict=True)]
        return torch.cat(each)

    def tree(self) -> torch.Tensor:
        """Documents that part from the longest one at several places."""
        trunk, *others = (document.tolist() for document in self.documents)
        cuts = (len(trunk) * 2 // 3, len(trunk) // 4)
        sequences = sorted([trunk, *(trunk[:n] + o for n, o in zip(cuts, others, strict=True))])
        limit = models.context(self.model)
        sequences = [sequence[:limit] for sequence in sequences]
        (tree,) = passes.trees(sequences, sum(map(len, sequences)))
        found = passes.tree_logits(self.model, tree, list(range(len(tree.ids))))
        return torch.cat(
            [
                self._far(found[path], self._alone(torch.tensor(sequence)))
                for path, sequence in zip(tree.paths, sequences, strict=True)
            ]
        )

    def remembered(self, how: Shortcuts, shrink: bool) -> torch.Tensor:
        """Documents side by side, token by token; with ``shrink`` rows leave as they end."""
        reader, each = Reader(self.model, how), []
        going = list(range(len(self.documents)))
        for step in range(max(map(len, self.documents))):
            lasting = [i for i in going if step < len(self.documents[i])]
            if shrink and len(lasting) < len(going):
                reader.keep(torch.tensor([going.index(i) for i in lasting]))
                going = lasting
            tokens = [self.documents[i][min(step, len(self.documents[i]) - 1)] for i in going]
            found = reader.read(torch.stack(tokens).to(self.model.device))
            rows = [going.index(i) for i in lasting]
            each.append(self._far(found[rows], torch.stack([self.alone[i][step] for i in lasting])))
        return torch.cat(each)


@contextmanager
def _still(model: PreTrainedModel) -> Iterator[None]:
    """Switch dropout off for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


# ---------------------------------------------------------------- the small copy


def small(model: PreTrainedModel) -> PreTrainedModel | None:
    """A float32 copy of an architecture, cut as far as it can be; None where it cannot be made.

    Its weights are random; random numbers of others are left alone.
    """
    for layers, vocabulary in ((True, True), (True, False), (False, False)):
        try:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                config = _cut(model, layers, vocabulary)
                made = type(model)._from_config(config, dtype=torch.float32)
            made = _lively(made.eval()).to(model.device)
            passes.logits(made, torch.full((1, 2), 3, device=model.device))
        except torch.OutOfMemoryError:
            raise
        except Exception:  # a configuration that its own code does not take; try one less cut
            continue
        return made
    return None


def _cut(model: PreTrainedModel, layers: bool, vocabulary: bool) -> PreTrainedConfig:
    """A copy of a configuration: fewer layers, narrow windows, few tokens.

    A window that holds the longest document stays: it never shuts anything out.
    """
    config = copy.deepcopy(model.config)
    text = config.get_text_config()
    depth = text.num_hidden_layers
    fewer = _enough(model, depth) if layers else depth
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth and layers:
            setattr(text, name, value[:fewer])
        if type(value) is not int:
            continue
        reach = any(word in name for word in ("window", "chunk", "local_attention"))
        if reach and "layers" not in name and WINDOW < value < models.context(model):
            setattr(text, name, WINDOW)
        if vocabulary and "vocab_size" in name and value > VOCABULARY:
            setattr(text, name, VOCABULARY)
        if vocabulary and name.endswith("token_id") and value >= VOCABULARY:
            setattr(text, name, 1)
    if layers:
        text.num_hidden_layers = fewer
    return config


def _enough(model: PreTrainedModel, depth: int) -> int:
    """How many of the first layers hold one of each kind."""
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not stacks:
        return depth
    kinds = [_kind(layer, number) for number, layer in enumerate(stacks[0])]
    return next(n for n in range(1, depth + 1) if set(kinds[:n]) == set(kinds))


def _kind(layer: nn.Module, number: int) -> tuple[object, ...]:
    """What a layer is made of: its parts, their settings and shapes, but for its number."""
    parts = [
        (name, type(part).__name__, *(sorted(_settings(part, number).items())))
        for name, part in layer.named_modules()
    ]
    return (*parts, *((name, tuple(w.shape)) for name, w in layer.named_parameters()))


def _settings(part: nn.Module, number: int) -> dict[str, str]:
    return {
        name: repr(value)
        for name, value in vars(part).items()
        if isinstance(value, (str, bool, int)) and (isinstance(value, bool) or value != number)
    }


def _lively(model: PreTrainedModel) -> PreTrainedModel:
    """Scale random weights so that no layer fades: what leaks through one shows in the logits."""
    with torch.no_grad():
        for weight in model.parameters():
            spread = weight.std().item() if weight.ndim > 1 else 0.0
            if spread > 0:
                weight.mul_(1 / (math.sqrt(weight.shape[-1]) * spread))
    return model
