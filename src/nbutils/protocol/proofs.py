"""Proofs: which shortcuts give what the plain pass gives, found out on the model at hand.

A shortcut is right for an architecture or it is not, so it is first tried in float32 on a small
copy of the architecture (see ``miniature``). Neither a name nor a signature tells whether a layer
reads a row as it lies, or a token's own past alone. Then it is tried with the real weights, in the
precision in which they compute.

The finding travels with the weights, in the model's configuration. It holds for one version of
transformers and one kind of device, and is made again for another.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import cycle
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from nbutils.errors import first_line
from nbutils.protocol import forward, miniature, models
from nbutils.protocol.forward import MEMORIES, PLAIN, Reader, Shortcuts
from nbutils.protocol.models import ModelError

KEY = "shortcuts"
"""Where a model's configuration holds what was found."""
TOLERANCE = 1e-4
"""Largest difference of logits in float32, as a share of the largest one, if that is above one."""
ROUNDINGS = 4
"""In 16 bits: so many units in the last place of the largest logit."""
SHARE = 0.75
"""In 16 bits: so many of the tokens may not differ by more. A rounding may send single tokens to
other experts, which is right as well."""
LENGTHS = (41, 23, 7)
"""Tokens of the documents that the copy reads; the first is longer than two of its windows."""
FEWER = (29, 21, 14)
"""Tokens of those that the model itself reads: 64 together."""
CHECKED = ("packed", "tree", "memory", "shrunk")


@dataclass(frozen=True)
class Difference:
    """How far a shortcut is from the plain pass, as a share of the largest logit.

    ``value`` is the difference that counts, the largest in float32 and that of three quarters of
    the tokens in 16 bits; ``largest`` is the largest. Both are infinite where it could not be
    tried; then ``why`` holds what the model said.
    """

    value: float
    largest: float = math.inf
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

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            name: {
                "right": bool(getattr(self.shortcuts, name)),
                "copy": number(self.copied[name].value),
                "copy_bound": TOLERANCE,
                "model": number(self.real[name].value),
                "model_bound": self.bound,
                "model_largest": number(self.real[name].largest),
                "why": self.copied[name].why or self.real[name].why or None,
            }
            for name in CHECKED
        }


# ---------------------------------------------------------------- what was found before


def shortcuts(model: PreTrainedModel) -> Shortcuts:
    """The shortcuts that are right for a model: as found before, or found now.

    Raises:
        ModelError: It is no causal language model.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft
    record = dict(getattr(inner.config, KEY, None) or {})
    if {name: record.pop(name, None) for name in where(inner)} == where(inner):
        return Shortcuts(**record)
    found = find(inner).shortcuts
    note(found, inner)
    return found


def note(found: Shortcuts, model: PreTrainedModel) -> None:
    """Record what was found in the configuration of a model, with which it is saved."""
    setattr(model.config, KEY, asdict(found) | where(model))


def write(model: PreTrainedModel, folder: Path) -> None:
    """Write what was noted of a model to the configuration with which it was saved."""
    path = folder / "config.json"
    values = json.loads(path.read_text("utf-8")) | {KEY: getattr(model.config, KEY)}
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", "utf-8")


def where(model: PreTrainedModel) -> dict[str, str]:
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

    # on accelerators convolutions would compute in fewer bits
    precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with _still(model), precise, torch.random.fork_rng():
        torch.manual_seed(0)
        first, copied = _try_copy(model)
        memories = ((first.memory, first.positions),) if first.memory else ()
        second, real = _try(_Probe(model, FEWER), bound, memories)
        if copied["plain"].why:  # there is no copy: only the model itself can tell
            _refuse_unless_causal(model, real["plain"], 10 * floor)
    shortcuts = Shortcuts(
        packed=first.packed and second.packed,
        tree=first.tree and second.tree,
        memory=second.memory,
        positions=second.positions,
        shrunk=first.shrunk and second.shrunk,
    )
    return Finding(shortcuts, copied, real, bound(real["plain"].value))


def _try_copy(model: PreTrainedModel) -> tuple[Shortcuts, dict[str, Difference]]:
    """Try every shortcut on a small copy; none is right where there can be no copy."""
    try:
        small = miniature.small_copy(model)
    except ModelError as error:
        return PLAIN, dict.fromkeys(("plain", *CHECKED), Difference(math.inf, why=str(error)))
    probe = _Probe(small, LENGTHS, forward.TREE_TOKENS, 2 * models.context(model))
    found = _try(probe, lambda noise: TOLERANCE, MEMORIES)
    _refuse_unless_causal(model, found[1]["plain"], TOLERANCE)
    return found


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
    probe: "_Probe", bound: Callable[[float], float], memories: tuple[tuple[str, bool], ...]
) -> tuple[Shortcuts, dict[str, Difference]]:
    """Try every shortcut on one model; ``bound`` tells what may differ, given what batches do."""
    share = 1.0 if probe.model.dtype == torch.float32 else SHARE
    seen = {"plain": _difference(probe.plain, share)}
    limit = bound(seen["plain"].value)
    seen["packed"] = _difference(probe.packed, share)
    seen["tree"] = _difference(probe.tree, share)
    how, seen["memory"] = PLAIN, Difference(math.inf, why="it remembers nothing")
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
        found = check()
    except Exception as error:  # a model's own code may raise anything
        return Difference(math.inf, why=f"{type(error).__name__}: {first_line(error)}"[:200])
    if not found.isfinite().all():
        return Difference(math.inf)
    return Difference(found.quantile(share).item(), found.max().item())


class _Probe:
    """Random documents, and what a model says of them when it reads each one alone."""

    def __init__(
        self, model: PreTrainedModel, lengths: tuple[int, ...], tree: int = 0, row: int = 0
    ) -> None:
        """Draw the documents; trees have at least ``tree`` tokens and rows at least ``row``."""
        limit = models.context(model)
        special = models.special_ids(model.config)
        usable = torch.tensor(
            [i for i in range(min(models.embedding_rows(model), 2**15)) if i not in special]
        )
        self.model, self._tree, self._row = model, tree, row
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
        return forward.logits(self.model, ids[None].to(self.model.device))[0].float()

    def _far(self, found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """Largest difference at each token, ``[tokens]``; both arguments ``[tokens, logits]``."""
        return (found.float() - expected).abs().amax(-1).cpu() / self.scale

    def plain(self) -> torch.Tensor:
        """Documents beside each other, padded at their ends; and the first half of one."""
        rows = nn.utils.rnn.pad_sequence(self.documents, batch_first=True, padding_value=1)
        found = forward.logits(self.model, rows.to(self.model.device))
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
        length = max(self._row, sum(map(len, self.documents)))
        numbers = range(len(self.documents))
        rows = [self._filled(order, length) for order in (numbers, numbers[::-1])]
        ids = torch.stack([torch.cat([self.documents[i][:n] for i, n in row]) for row in rows])
        places = torch.stack([torch.cat([torch.arange(n) for _, n in row]) for row in rows])
        place = self.model.device
        found = forward.logits(self.model, ids.to(place), places.to(place))
        return torch.cat(
            [
                self._far(logits, self.alone[i][:n])
                for row, read in zip(rows, found, strict=True)
                for logits, (i, n) in zip(read.split([n for _, n in row]), row, strict=True)
            ]
        )

    def _filled(self, order: Iterable[int], length: int) -> list[tuple[int, int]]:
        """Documents, by number, that fill a row, and how many tokens of each; the last is cut."""
        found: list[tuple[int, int]] = []
        for i in cycle(order):
            found.append((i, min(length, len(self.documents[i]))))
            length -= found[-1][1]
            if length == 0:
                break
        return found

    def tree(self) -> torch.Tensor:
        """Documents that part from the longest one at several places, and some of their own."""
        trunk, *others = (document.tolist() for document in self.documents)
        cuts = (len(trunk) * 2 // 3, len(trunk) // 4)
        found = [trunk, *(trunk[:n] + o for n, o in zip(cuts, others, strict=True))]
        while sum(map(len, found)) < self._tree:
            found.append([*found[-1][1:], *found[-1][:1]])
        limit = models.context(self.model)
        sequences = sorted(sequence[:limit] for sequence in found)
        (tree,) = forward.trees(sequences, sum(map(len, sequences)))
        logits = forward.tree_logits(self.model, tree, list(range(len(tree.ids))))
        return torch.cat(
            [
                self._far(logits[path], self._alone(torch.tensor(sequence)))
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
