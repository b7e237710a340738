"""SentencePiece: a model as a tokenizer that reads text as SentencePiece itself does.

Transformers converts such a model by the class of its tokenizer, and without one reads text
otherwise: the space before the first word, for instance, is left out. Here the file decides.
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
"""Tokenizers whose ids are those of the file, as they are where no class is named."""
OTHER_FORMS = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json")
SPACE = "▁"  # how SentencePiece writes one
UNIGRAM = 1
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
TEXTS = (
    "The house of the people, at the end of the street.",
    " One space before; two  within, three after.   ",
    "Line by line\n\n\tand a tab: naïve “quotes”, ½, ﬁ, 漢字 🙂 \u00a0.",
)
"""Where conversions of SentencePiece models go wrong."""


def file(folder: Path) -> Path | None:
    """The SentencePiece model of a model folder whose tokenizer has no other form; or None."""
    found = sorted(folder.glob("*.model"), key=lambda f: (f.name != "tokenizer.model", f.name))
    if not found or any((folder / name).is_file() for name in OTHER_FORMS):
        return None
    named = _told(folder).get("tokenizer_class")
    return found[0] if named is None or named.removesuffix("Fast") in CLASSES else None


def _told(folder: Path) -> dict[str, Any]:
    """What the files of a model folder tell of its tokenizer."""
    paths = [folder / "special_tokens_map.json", folder / "tokenizer_config.json"]
    read = [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]
    return {name: value for values in read for name, value in values.items()}


def read(folder: Path, path: Path, origin: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder from its SentencePiece model; it is written there, too.

    Raises:
        ModelError: It is no SentencePiece model, or text cannot be read as it does.
    """
    own, proto = sentencepiece.SentencePieceProcessor(), import_protobuf().ModelProto()
    try:
        own.Load(str(path))
        proto.ParseFromString(path.read_bytes())
    except Exception as error:  # SentencePiece and protobuf share no base class
        raise ModelError(
            f"{path.name} of {origin} is no SentencePiece model: where it is one of tiktoken's, "
            "load the tokenizer where tiktoken is installed and save it with save_pretrained, "
            "which writes a tokenizer.json; else copy or download it again"
        ) from error
    told, backend = _told(folder), _tokenizer(proto)
    ids = {"bos_token": own.bos_id(), "eos_token": own.eos_id(), "unk_token": own.unk_id()}
    names = {k: own.IdToPiece(i) for k, i in ids.items() if i >= 0}
    if told.get("add_bos_token", True) and "bos_token" in names:
        bos = names["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, own.bos_id())]
        )
    backend.save(str(folder / "tokenizer.json"))
    unsaid = {k: name for k, name in names.items() if k not in told}
    made = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, **unsaid)
    for text in [*TEXTS, *(f"before{piece}after {piece}" for piece in _spelled(proto))]:
        ids_here = made(text, add_special_tokens=False, split_special_tokens=True).input_ids
        if ids_here != own.Encode(text):
            raise ModelError(
                f"{path.name} of {origin} reads {text!r} otherwise than it can be read here: save "
                "the tokenizer as a tokenizer.json where its own library is installed"
            )
    return made


def _spelled(proto: Any) -> list[str]:
    """Pieces that are no part of plain text, to be found in it or not to be found.

    Without those that hold a letter that is no piece itself: Unigram of tokenizers finds them.
    """
    known = {piece.piece for piece in proto.pieces}
    apart = [p.piece for p in proto.pieces if p.type in (CONTROL, USER_DEFINED)]
    return [piece for piece in apart if known.issuperset(piece)][:20]


def _tokenizer(proto: Any) -> Tokenizer:
    """The algorithm of a SentencePiece model with its pieces, and what it does to text before."""
    spec, fallback = proto.trainer_spec, proto.trainer_spec.byte_fallback
    # text never becomes one of these, whatever it spells
    apart = {piece.piece for piece in proto.pieces if piece.type not in (NORMAL, USER_DEFINED)}
    model: Any
    if spec.model_type == UNIGRAM:
        worst = min(piece.score for piece in proto.pieces) - 100
        scores = [(p.piece, worst if p.piece in apart else p.score) for p in proto.pieces]
        model = algorithms.Unigram(scores, unk_id=spec.unk_id, byte_fallback=fallback)
    else:
        ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
        merges = generate_merges(ids, skip_tokens=apart)
        model = algorithms.BPE(
            ids, merges, unk_token=spec.unk_piece, fuse_unk=True, byte_fallback=fallback
        )
    tokenizer, before = Tokenizer(model), proto.normalizer_spec
    steps: list[Any] = []
    if before.precompiled_charsmap:
        steps.append(normalizers.Precompiled(before.precompiled_charsmap))
    if before.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if before.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    after = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if before.add_dummy_prefix:
        after.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(after)
    control = [p.piece for p in proto.pieces if p.type == CONTROL]
    users = [p.piece for p in proto.pieces if p.type == USER_DEFINED]
    # found in text whose spaces are replaced, as one may be a run of them; but a prefix spoils that
    replaced = not before.add_dummy_prefix
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=True) for piece in control])
    tokenizer.add_tokens([AddedToken(piece, normalized=replaced) for piece in users])
    return tokenizer
