"""Integrity: whether a pretrained model is all there, and its tokenizer is its own.

What transformers fills up, leaves out or lets pass is refused here, in one line: a model that is
measured is the one that was published.
"""

import re
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.protocol.models import ModelError, special_tokens

MASKS = re.compile(r"\.(attn|attention)\.(masked_)?bias$")
"""Names of causal masks, which older versions of transformers stored with the weights."""


def whole(model: PreTrainedModel, loading: Mapping[str, Any], origin: str) -> None:
    """Check that what was stored is what the model's configuration asks for, weight by weight.

    ``loading`` is what transformers tells of it. A head that is tied need not be stored, and what
    a model computes by itself, or declares that it ignores, may be left over.

    Raises:
        ModelError: A weight is missing, left over, of another shape, or not finite.
    """
    computed = [name for name, _ in model.named_non_persistent_buffers()]
    extra = [key for key in loading["unexpected_keys"] if not _ends(key, computed)]
    left = [key for key in extra if not MASKS.search(key)]
    shapes = [
        f"{key} ({_shape(stored)} instead of {_shape(wanted)})"
        for key, stored, wanted in loading["mismatched_keys"]
    ]
    problems = {"missing": loading["missing_keys"], "left over": left, "misshapen": shapes}
    told = [f"{_first(names)} {what}" for what, names in problems.items() if names]
    if told:
        raise ModelError(
            f"{', '.join(told)}: the weights of {origin} must be those of the "
            f"{type(model).__name__} in its configuration, each once and under its own name; copy "
            "or download the model again, or save it with save_pretrained, out of any wrapper"
        )
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise ModelError(
                f"the weight {name} of {origin} is not finite as {str(weight.dtype)[6:]}: allowed "
                "are numbers without NaN and infinity, so take a whole copy, or another dtype"
            )


def _ends(key: str, names: list[str]) -> bool:
    """Whether a key is one of these names, of the whole model or of the one without its head."""
    return any(name == key or name.endswith(f".{key}") for name in names)


def _first(names: Any) -> str:
    """The first of some names, and how many more there are."""
    first, *others = sorted(names)
    more = f" and {len(others)} more" if others else ""
    return f"{first}{more} {'are' if others else 'is'}"


def _shape(shape: Any) -> str:
    return "x".join(map(str, shape)) or "a number"


NO_TOKENIZER = (
    "{} has no tokenizer that can be read: allowed beside its weights are tokenizer.json, a "
    "SentencePiece tokenizer.model, or the vocabulary of its tokenizer's class; where it has "
    "another form, load it with its own library and save it with save_pretrained"
)


def reading(tokenizer: PreTrainedTokenizerBase, origin: str) -> None:
    """Check that a tokenizer has a vocabulary: of some classes, one without any is loaded.

    Raises:
        ModelError: It has special tokens, perhaps the space, and nothing else.
    """
    if len(set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder)) < 2:
        raise ModelError(NO_TOKENIZER.format(origin))


def fitting(tokenizer: PreTrainedTokenizerBase, rows: int, origin: str) -> None:
    """Check that text becomes ids that a model embeds: ``rows`` of them.

    Special tokens that were added may lie beyond, as text never becomes one. A published model may
    have them, for pictures for instance.

    Raises:
        ModelError: Another token lies beyond the rows, or BOS or EOS does.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    own = backend.get_vocab(with_added_tokens=False) if backend else {}
    special = special_tokens(tokenizer)
    ends = (tokenizer.bos_token, tokenizer.eos_token)
    beyond = sorted((id_, t) for t, id_ in tokenizer.get_vocab().items() if id_ >= rows)
    wrong = [(id_, t) for id_, t in beyond if id_ not in special or t in own or t in ends]
    if wrong:
        id_, token = wrong[0]
        raise ModelError(
            f"the tokenizer of {origin} gives {token!r} the id {id_}, and the model embeds {rows} "
            "ids, from 0: beyond them only special tokens are allowed that begin and end no "
            "document, so give the model its own tokenizer"
        )
