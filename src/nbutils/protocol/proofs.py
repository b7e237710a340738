"""Proofs: test on a model which shortcuts give the same logits as the plain pass.

Whether a shortcut is right depends on the architecture, and neither its name nor its signature
shows it. So each shortcut is first tried in float32 on a small copy of the architecture (see
``miniature``), then with the real weights, in the precision in which they compute.

The result is stored with the weights, in the model's configuration. It holds for one version of
transformers and one type of device; with any other, the shortcuts are tried again.
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
"""The field of a model's configuration that stores the result."""
TOLERANCE = 1e-4
"""Largest allowed difference of logits in float32, as a share of the largest logit, or of one."""
ROUNDINGS = 4
"""Largest allowed difference in 16 bits, in units in the last place of the largest logit."""
SHARE = 0.75
"""In 16 bits, the share of tokens within the allowed difference. Rounding may send single tokens
to other experts, which is no error."""
LENGTHS = (41, 23, 7)
"""Tokens of the documents for the copy; the first is longer than two of its windows."""
FEWER = (29, 21, 14)
"""Tokens of the documents for the model itself, 64 in all."""
CHECKED = ("packed", "tree", "memory", "shrunk")


@dataclass(frozen=True)
class Difference:
    """How far a shortcut's logits are from the plain pass, as a share of the largest logit.

    ``value`` is compared with the bound: the largest difference in float32, the 75 % quantile over
    tokens in 16 bits. ``largest`` is always the largest. Both are infinite where the shortcut could
    not be tried; ``reason`` is then the model's error.
    """

    value: float
    largest: float = math.inf
    reason: str = ""


@dataclass(frozen=True)
class Finding:
    """Which shortcuts are right, and how far the logits of each were from the plain pass.

    ``bound`` is the largest difference allowed on the model itself; on the small copy it is
    ``TOLERANCE``. Keys are the shortcuts in the table of ``forward``, and ``plain``: the plain pass
    over a batch, or over half of a document.
    """

    shortcuts: Shortcuts
    copy_differences: dict[str, Difference]
    model_differences: dict[str, Difference]
    bound: float

    def facts(self) -> dict[str, dict[str, float | bool | str | None]]:
        """The finding as JSON, with one mapping per shortcut; infinite values become null."""

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            name: {
                "right": bool(getattr(self.shortcuts, name)),
                "copy": number(self.copy_differences[name].value),
                "copy_bound": TOLERANCE,
                "model": number(self.model_differences[name].value),
                "model_bound": self.bound,
                "model_largest": number(self.model_differences[name].largest),
                "why": self.copy_differences[name].reason
                or self.model_differences[name].reason
                or None,
            }
            for name in CHECKED
        }


# ---------------------------------------------------------------- stored results


def shortcuts(model: PreTrainedModel) -> Shortcuts:
    """The shortcuts that are right for a model, as stored; they are tried now if none are stored.

    Raises:
        ModelError: The model is no causal language model.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft
    record = dict(getattr(base.config, KEY, None) or {})
    if {name: record.pop(name, None) for name in where(base)} == where(base):
        return Shortcuts(**record)
    right = find(base).shortcuts
    note(right, base)
    return right


def note(right: Shortcuts, model: PreTrainedModel) -> None:
    """Store the shortcuts that are right in the configuration of a model in memory."""
    setattr(model.config, KEY, asdict(right) | where(model))


def write(model: PreTrainedModel, folder: Path) -> None:
    """Write the shortcuts stored in a model's configuration to the folder where it was saved."""
    path = folder / "config.json"
    values = json.loads(path.read_text("utf-8")) | {KEY: getattr(model.config, KEY)}
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", "utf-8")


def where(model: PreTrainedModel) -> dict[str, str]:
    """What a result holds for: the version of transformers, the type of device, the precision."""
    return {
        "transformers": transformers.__version__,
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


# ---------------------------------------------------------------- trying the shortcuts


@torch.no_grad()
def find(model: PreTrainedModel) -> Finding:
    """Try every shortcut on a small copy of a model's architecture, then on the model itself.

    A shortcut that cannot be tried is not right. The state of the random number generator is
    preserved.

    Raises:
        ModelError: The logits at a token depend on later tokens, or on other rows of the batch: the
            model is no causal language model.
    """
    floor = TOLERANCE
    if model.dtype != torch.float32:
        floor = ROUNDINGS * torch.finfo(model.dtype).eps

    def bound(noise: float) -> float:
        # In 16 bits the plain pass, too, depends on the number of rows. Both measurements vary, so
        # a shortcut may differ by twice as much.
        return max(floor, 2 * noise) if math.isfinite(noise) else floor

    # without TF32, in which accelerators would compute convolutions
    full_precision = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with _without_dropout(model), full_precision, torch.random.fork_rng():
        torch.manual_seed(0)
        on_copy, copy_differences = _try_copy(model)
        memories = ((on_copy.memory, on_copy.positions),) if on_copy.memory else ()
        on_model, model_differences = _try(_Probe(model, FEWER), bound, memories)
        if copy_differences["plain"].reason:  # there is no copy, so the model itself is tested
            _refuse_unless_causal(model, model_differences["plain"], 10 * floor)
    shortcuts = Shortcuts(
        packed=on_copy.packed and on_model.packed,
        tree=on_copy.tree and on_model.tree,
        memory=on_model.memory,
        positions=on_model.positions,
        shrunk=on_copy.shrunk and on_model.shrunk,
    )
    return Finding(
        shortcuts, copy_differences, model_differences, bound(model_differences["plain"].value)
    )


def _try_copy(model: PreTrainedModel) -> tuple[Shortcuts, dict[str, Difference]]:
    """Try every shortcut on a small copy; none is right where no copy can be made."""
    try:
        small = miniature.small_copy(model)
    except ModelError as error:
        return PLAIN, dict.fromkeys(("plain", *CHECKED), Difference(math.inf, reason=str(error)))
    probe = _Probe(small, LENGTHS, forward.TREE_TOKENS, 2 * models.context(model))
    right, differences = _try(probe, lambda noise: TOLERANCE, MEMORIES)
    _refuse_unless_causal(model, differences["plain"], TOLERANCE)
    return right, differences


def _refuse_unless_causal(model: PreTrainedModel, plain: Difference, bound: float) -> None:
    """Raise ``ModelError`` where the plain pass differs from itself by more than ``bound``."""
    if plain.value <= bound:
        return
    architecture = model.config.model_type
    if plain.reason:
        raise ModelError(
            f"a {architecture} model cannot read text as it is configured ({plain.reason})"
        )
    raise ModelError(
        f"a {architecture} model is no causal language model: its logits at a token depend on "
        f"later tokens or on other rows (they change by {plain.value:.2g} of the largest); take a "
        "model that was trained to predict the next token"
    )


def _try(
    probe: "_Probe", bound: Callable[[float], float], memories: tuple[tuple[str, bool], ...]
) -> tuple[Shortcuts, dict[str, Difference]]:
    """Try every shortcut on one model.

    ``bound`` gives the allowed difference from the difference between batches of the plain pass.
    """
    share = 1.0 if probe.model.dtype == torch.float32 else SHARE
    differences = {"plain": _difference(probe.plain, share)}
    limit = bound(differences["plain"].value)
    differences["packed"] = _difference(probe.packed, share)
    differences["tree"] = _difference(probe.tree, share)
    cache = PLAIN
    differences["memory"] = Difference(math.inf, reason="it remembers nothing")
    for name, positions in memories:
        tried = Shortcuts(memory=name, positions=positions)
        difference = _difference(partial(probe.token_by_token, tried, shrink=False), share)
        if difference.value < differences["memory"].value:
            differences["memory"] = difference
        if difference.value <= limit:
            cache = tried
            break
    differences["shrunk"] = _difference(partial(probe.token_by_token, cache, shrink=True), share)
    right = {name: difference.value <= limit for name, difference in differences.items()}
    return (
        Shortcuts(right["packed"], right["tree"], cache.memory, cache.positions, right["shrunk"]),
        differences,
    )


def _difference(check: Callable[[], torch.Tensor], share: float) -> Difference:
    """The difference that a check measures, or the error that it raises."""
    try:
        measured = check()
    except Exception as error:  # a model's own code may raise anything
        return Difference(math.inf, reason=f"{type(error).__name__}: {first_line(error)}"[:200])
    if not measured.isfinite().all():
        return Difference(math.inf)
    return Difference(measured.quantile(share).item(), measured.max().item())


class _Probe:
    """Random documents, and a model's logits for them when it reads each one alone.

    The checks return differences from these logits, one per token, shape ``[tokens]``.
    """

    def __init__(
        self, model: PreTrainedModel, lengths: tuple[int, ...], tree: int = 0, row: int = 0
    ) -> None:
        """Draw the documents; test trees have at least ``tree`` tokens, test rows ``row``."""
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
        """Logits of each document, read alone, ``[tokens, vocabulary]``."""
        return [self._alone(document) for document in self.documents]

    @cached_property
    def scale(self) -> float:
        """The largest absolute logit, at least one."""
        return max(1.0, *(logits.abs().max().item() for logits in self.alone))

    def _alone(self, ids: torch.Tensor) -> torch.Tensor:
        return forward.logits(self.model, ids[None].to(self.model.device))[0].float()

    def _differences(self, logits: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """Largest difference per token, ``[tokens]``; both arguments ``[tokens, vocabulary]``."""
        return (logits.float() - expected).abs().amax(-1).cpu() / self.scale

    def plain(self) -> torch.Tensor:
        """Check the plain pass: the documents as a padded batch, and the first half of one."""
        rows = nn.utils.rnn.pad_sequence(self.documents, batch_first=True, padding_value=1)
        batch = forward.logits(self.model, rows.to(self.model.device))
        half = len(self.documents[0]) // 2
        in_batch = [
            self._differences(row[: len(alone)], alone)
            for row, alone in zip(batch, self.alone, strict=True)
        ]
        first_half = self._alone(self.documents[0][:half])
        return torch.cat([self._differences(first_half, self.alone[0][:half]), *in_batch])

    def packed(self) -> torch.Tensor:
        """Check packing: all documents in one row, and in reverse order in a second row."""
        length = max(self._row, sum(map(len, self.documents)))
        numbers = range(len(self.documents))
        rows = [self._filled(order, length) for order in (numbers, numbers[::-1])]
        ids = torch.stack([torch.cat([self.documents[i][:n] for i, n in row]) for row in rows])
        positions = torch.stack([torch.cat([torch.arange(n) for _, n in row]) for row in rows])
        device = self.model.device
        batch = forward.logits(self.model, ids.to(device), positions.to(device))
        return torch.cat(
            [
                self._differences(logits, self.alone[i][:n])
                for row, row_logits in zip(rows, batch, strict=True)
                for logits, (i, n) in zip(row_logits.split([n for _, n in row]), row, strict=True)
            ]
        )

    def _filled(self, order: Iterable[int], length: int) -> list[tuple[int, int]]:
        """Pairs of a document's number and its tokens that fill a row; the last one is cut."""
        parts: list[tuple[int, int]] = []
        for i in cycle(order):
            parts.append((i, min(length, len(self.documents[i]))))
            length -= parts[-1][1]
            if length == 0:
                break
        return parts

    def tree(self) -> torch.Tensor:
        """Check the tree: documents that share prefixes of the longest one, and others."""
        trunk, *others = (document.tolist() for document in self.documents)
        cuts = (len(trunk) * 2 // 3, len(trunk) // 4)
        documents = [trunk, *(trunk[:n] + o for n, o in zip(cuts, others, strict=True))]
        while sum(map(len, documents)) < self._tree:
            documents.append([*documents[-1][1:], *documents[-1][:1]])
        limit = models.context(self.model)
        sequences = sorted(document[:limit] for document in documents)
        room = 2 * sum(map(len, sequences))  # so that all are in one tree
        (tree,) = forward.trees(sequences, room)
        logits = forward.tree_logits(self.model, tree, list(range(len(tree.ids))))
        return torch.cat(
            [
                self._differences(logits[path], self._alone(torch.tensor(sequence)))
                for path, sequence in zip(tree.paths, sequences, strict=True)
            ]
        )

    def token_by_token(self, shortcuts: Shortcuts, shrink: bool) -> torch.Tensor:
        """Check the cache: the documents as a batch, token by token.

        With ``shrink``, rows leave the batch when their documents end.
        """
        reader, differences = Reader(self.model, shortcuts), []
        in_batch = list(range(len(self.documents)))
        for step in range(max(map(len, self.documents))):
            unfinished = [i for i in in_batch if step < len(self.documents[i])]
            if shrink and len(unfinished) < len(in_batch):
                reader.keep(torch.tensor([in_batch.index(i) for i in unfinished]))
                in_batch = unfinished
            tokens = [self.documents[i][min(step, len(self.documents[i]) - 1)] for i in in_batch]
            logits = reader.read(torch.stack(tokens).to(self.model.device))
            rows = [in_batch.index(i) for i in unfinished]
            expected = torch.stack([self.alone[i][step] for i in unfinished])
            differences.append(self._differences(logits[rows], expected))
        return torch.cat(differences)


@contextmanager
def _without_dropout(model: PreTrainedModel) -> Iterator[None]:
    """Turn dropout off for the duration of a block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
