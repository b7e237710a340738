"""Integrity: check that the files of a pretrained model are complete and fit together.

Transformers initialises missing weights, drops unknown ones and accepts a foreign tokenizer. Here
each of these is an error, so that the model that is measured is the one that was published.
"""

import re
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.protocol.models import ModelError, special_tokens

MASKS = re.compile(r"\.(attn|attention)\.(masked_)?bias$")
"""Names of causal masks, which older versions of transformers stored with the weights."""


def check_weights(model: PreTrainedModel, report: Mapping[str, Any], origin: str) -> None:
    """Check that the stored weights are exactly those that the model's configuration needs.

    ``report`` is the loading info of transformers. A tied head may be missing; buffers that the
    model computes itself, and weights that it declares to ignore, may be stored in addition.

    Raises:
        ModelError: A weight is missing, superfluous, of another shape, or not finite.
    """
    computed = [name for name, _ in model.named_non_persistent_buffers()]
    unexpected = [key for key in report["unexpected_keys"] if not _is_one_of(key, computed)]
    superfluous = [key for key in unexpected if not MASKS.search(key)]
    shapes = [
        f"{key} ({_shape(stored)} instead of {_shape(expected)})"
        for key, stored, expected in report["mismatched_keys"]
    ]
    weights = {"missing": report["missing_keys"], "left over": superfluous, "misshapen": shapes}
    problems = [f"{_first(names)} {problem}" for problem, names in weights.items() if names]
    if problems:
        raise ModelError(
            f"{', '.join(problems)}: the weights of {origin} must be those of the "
            f"{type(model).__name__} in its configuration, each once and under its own name; copy "
            "or download the model again, or save it with save_pretrained, out of any wrapper"
        )
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise ModelError(
                f"the weight {name} of {origin} is not finite as {str(weight.dtype)[6:]}: NaN and "
                "infinity are not allowed, so take an undamaged copy, or another dtype"
            )


def _is_one_of(key: str, names: list[str]) -> bool:
    """Whether a key is one of the names, with or without their leading parts."""
    return any(name == key or name.endswith(f".{key}") for name in names)


def _first(names: Any) -> str:
    """The first of some names and the number of the others, followed by *is* or *are*."""
    first, *others = sorted(names)
    more = f" and {len(others)} more" if others else ""
    return f"{first}{more} {'are' if others else 'is'}"


def _shape(shape: Any) -> str:
    return "x".join(map(str, shape)) or "a number"


NO_TOKENIZER = (
    "{} has no tokenizer that can be read: allowed beside its weights are tokenizer.json, a "
    "SentencePiece tokenizer.model, or the vocabulary files of its tokenizer's class; load a "
    "tokenizer of another form with its own library and save it with save_pretrained"
)


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, origin: str) -> None:
    """Check that a tokenizer has a vocabulary, which some classes load without.

    Raises:
        ModelError: It has at most one token besides its added tokens.
    """
    if len(set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder)) < 2:
        raise ModelError(NO_TOKENIZER.format(origin))


def check_token_ids(tokenizer: PreTrainedTokenizerBase, rows: int, origin: str) -> None:
    """Check that every token that text may contain has a row in the model's embedding.

    The embedding has ``rows`` rows. Added special tokens may have larger ids, because text never
    contains them; published models have such tokens, for pictures for instance.

    Raises:
        ModelError: BOS, EOS or a token of text has an id of ``rows`` or more.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    plain = backend.get_vocab(with_added_tokens=False) if backend else {}
    special = special_tokens(tokenizer)
    ends = (tokenizer.bos_token, tokenizer.eos_token)
    beyond = sorted((id_, t) for t, id_ in tokenizer.get_vocab().items() if id_ >= rows)
    wrong = [(id_, t) for id_, t in beyond if id_ not in special or t in plain or t in ends]
    if wrong:
        id_, token = wrong[0]
        raise ModelError(
            f"the tokenizer of {origin} gives {token!r} the id {id_}, and the model embeds {rows} "
            f"ids: {rows} and more are allowed only for special tokens that neither begin nor end "
            "a document, so give the model its own tokenizer"
        )
