"""Pieces: a SentencePiece model that comes alone reads text as SentencePiece does."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from nbutils.protocol import fetch_model, models, sentencepiece_tokenizer
from nbutils.protocol.models import ModelError
from support import tiny

TEXTS = (
    *tiny.SENTENCES,
    "the people",
    " the people",
    "  two  and   more ",
    "a\n\nb\tc",
    "naïve 🙂",
)
LLAMA = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
GEMMA = LLAMA | {"add_dummy_prefix": False, "user_defined_symbols": ["▁▁", "<tag>"]}
KINDS: dict[str, dict[str, Any]] = {
    "default": {"vocab_size": 38},
    "word breaks": {"model_type": "bpe", "vocab_size": 80},
    "llama": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 320} | LLAMA,
    "gemma": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 320} | GEMMA,
    "unigram with bytes": {"byte_fallback": True, "vocab_size": 295} | LLAMA,
}


def make(folder: Path, name: str = "tokenizer.model", **options: Any) -> Path:
    """A model folder whose tokenizer is a SentencePiece model alone."""
    tiny.model("llama").save_pretrained(folder)
    trained: dict[str, Any] = {
        "sentence_iterator": iter(tiny.SENTENCES),
        "minloglevel": 2,
    } | options
    with (folder / name).open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(model_writer=file, **trained)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_read_as_by_sentencepiece_also_once_saved(kind: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", **KINDS[kind])
    own = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    model, tokenizer = fetch_model.read(f"folder:{folder}")
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert tokenizer("a").input_ids[0] == own.bos_id()
    models.save(model, tokenizer, tmp_path / "out")
    _, again = models.load(tmp_path / "out", tmp_path / "out")
    for read in (tokenizer, again):
        ids = read(list(TEXTS), add_special_tokens=False).input_ids
        assert ids == [own.Encode(text) for text in TEXTS]
        assert read.decode(ids[0]) == TEXTS[0]
    assert not (folder / "tokenizer.json").exists()


@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model"])
def test_the_file_may_have_another_name(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path, name, **KINDS["llama"])
    assert fetch_model.read(f"folder:{folder}")[1].tokenize("the house")[0] == "▁the"


def test_what_the_folder_says_of_its_tokenizer_counts(tmp_path: Path) -> None:
    folder = make(tmp_path, **KINDS["llama"])
    told = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, "bos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told), "utf-8")
    _, tokenizer = fetch_model.read(f"folder:{folder}")
    assert tokenizer("a").input_ids == tokenizer("a", add_special_tokens=False).input_ids
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("</s>", "</s>")


def test_another_form_of_the_tokenizer_comes_first(tmp_path: Path) -> None:
    folder = make(tmp_path, **KINDS["llama"])
    assert sentencepiece_tokenizer.file(folder) == folder / "tokenizer.model"
    tiny.tokenizer().save_pretrained(folder)
    assert sentencepiece_tokenizer.file(folder) is None


def test_a_file_of_tiktoken_is_told_from_a_sentencepiece_model(tmp_path: Path) -> None:
    tiny.model("llama").save_pretrained(tmp_path)
    lines = [f"{base64.b64encode(bytes([i])).decode()} {i}" for i in range(256)]
    (tmp_path / "tokenizer.model").write_text("\n".join(lines), "utf-8")
    with pytest.raises(ModelError, match="is no SentencePiece model: where it is one of tiktoken"):
        fetch_model.read(f"folder:{tmp_path}")


def test_a_model_that_would_be_read_otherwise_is_refused(tmp_path: Path) -> None:
    options = KINDS["llama"] | {"treat_whitespace_as_suffix": True}
    with pytest.raises(ModelError, match=r"reads 'The house .* otherwise than it can be read here"):
        fetch_model.read(f"folder:{make(tmp_path, **options)}")
