"""SentencePiece: a tokenizer with the same token ids as the SentencePiece model itself.

Transformers converts such a model by the class of its tokenizer. Without a class, its ids differ:
for instance, the space before the first word is missing. Here the conversion follows the model
file.
"""

import json
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, processors
from tokenizers import models as algorithms
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import import_protobuf
from transformers.tokenization_utils_base import generate_merges

from nbutils.protocol.models import ModelError

CLASSES = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")
"""Classes that use the ids of the model file, as a tokenizer without a class does."""
OTHER_FORMS = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json")
SPACE = "▁"  # SentencePiece's symbol for a space
UNIGRAM = 1
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
TEXTS = (
    "The house of the people, at the end of the street.",
    " One space before; two  within, three after.   ",
    "Line by line\n\n\tand a tab: naïve “quotes”, ½, ﬁ, 漢字 🙂 \u00a0.",
)
"""Test texts on which conversions of SentencePiece models tend to go wrong."""


def file(folder: Path) -> Path | None:
    """The SentencePiece model of a model folder, or None if its tokenizer has another form."""
    candidates = sorted(folder.glob("*.model"), key=lambda f: (f.name != "tokenizer.model", f.name))
    if not candidates or any((folder / name).is_file() for name in OTHER_FORMS):
        return None
    class_name = _settings(folder).get("tokenizer_class")
    fits = class_name is None or class_name.removesuffix("Fast") in CLASSES
    return candidates[0] if fits else None


def _settings(folder: Path) -> dict[str, Any]:
    """The settings of a tokenizer in the JSON files of its model folder."""
    paths = [folder / "special_tokens_map.json", folder / "tokenizer_config.json"]
    contents = [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]
    return {name: value for values in contents for name, value in values.items()}


def read(folder: Path, path: Path, origin: str) -> PreTrainedTokenizerFast:
    """Convert the SentencePiece model ``path``; also writes ``tokenizer.json`` into the folder.

    Raises:
        ModelError: The file is no SentencePiece model, or the conversion gives other token ids.
    """
    reference, proto = sentencepiece.SentencePieceProcessor(), import_protobuf().ModelProto()
    try:
        reference.Load(str(path))
        proto.ParseFromString(path.read_bytes())
    except Exception as error:  # SentencePiece and protobuf share no base class
        raise ModelError(
            f"{path.name} of {origin} is no SentencePiece model: where it is one of tiktoken's, "
            "load the tokenizer where tiktoken is installed and save it with save_pretrained, "
            "which writes a tokenizer.json; otherwise copy or download the file again"
        ) from error
    settings, backend = _settings(folder), _tokenizer(proto)
    ids = {
        "bos_token": reference.bos_id(),
        "eos_token": reference.eos_id(),
        "unk_token": reference.unk_id(),
    }
    names = {k: reference.IdToPiece(i) for k, i in ids.items() if i >= 0}
    if settings.get("add_bos_token", True) and "bos_token" in names:
        bos = names["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, reference.bos_id())]
        )
    backend.save(str(folder / "tokenizer.json"))
    defaults = {k: name for k, name in names.items() if k not in settings}
    converted = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, **defaults)
    for text in [*TEXTS, *(f"before{piece}after {piece}" for piece in _unusual_pieces(proto))]:
        text_ids = converted(text, add_special_tokens=False, split_special_tokens=True).input_ids
        if text_ids != reference.Encode(text):
            raise ModelError(
                f"{path.name} of {origin} reads {text!r} otherwise than it can be read here: save "
                "the tokenizer as a tokenizer.json where its own library is installed"
            )
    return converted


def _unusual_pieces(proto: Any) -> list[str]:
    """Up to 20 control and user-defined pieces, with which the conversion is tested.

    Pieces with a letter that is no piece itself are left out: on them, Unigram of the library
    tokenizers differs.
    """
    pieces = {piece.piece for piece in proto.pieces}
    unusual = [p.piece for p in proto.pieces if p.type in (CONTROL, USER_DEFINED)]
    return [piece for piece in unusual if pieces.issuperset(piece)][:20]


def _tokenizer(proto: Any) -> Tokenizer:
    """The algorithm of a SentencePiece model with its pieces, normalisation and decoding."""
    spec, fallback = proto.trainer_spec, proto.trainer_spec.byte_fallback
    # text never becomes one of these pieces, even where it spells one
    unreachable = {p.piece for p in proto.pieces if p.type not in (NORMAL, USER_DEFINED)}
    model: Any
    if spec.model_type == UNIGRAM:
        worst = min(piece.score for piece in proto.pieces) - 100
        scores = [(p.piece, worst if p.piece in unreachable else p.score) for p in proto.pieces]
        model = algorithms.Unigram(scores, unk_id=spec.unk_id, byte_fallback=fallback)
    else:
        ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
        merges = generate_merges(ids, skip_tokens=unreachable)
        model = algorithms.BPE(
            ids, merges, unk_token=spec.unk_piece, fuse_unk=True, byte_fallback=fallback
        )
    tokenizer, normalizer = Tokenizer(model), proto.normalizer_spec
    steps: list[Any] = []
    if normalizer.precompiled_charsmap:
        steps.append(normalizers.Precompiled(normalizer.precompiled_charsmap))
    if normalizer.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if normalizer.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    decoding = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if normalizer.add_dummy_prefix:
        decoding.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(decoding)
    control = [p.piece for p in proto.pieces if p.type == CONTROL]
    user_defined = [p.piece for p in proto.pieces if p.type == USER_DEFINED]
    # A user-defined piece may be a run of spaces, so it is matched after spaces are replaced. A
    # dummy prefix would spoil that match.
    normalized = not normalizer.add_dummy_prefix
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=True) for piece in control])
    tokenizer.add_tokens([AddedToken(piece, normalized=normalized) for piece in user_defined])
    return tokenizer
