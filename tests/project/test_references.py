"""Words and references: the glossary is whole, and the bibliography is what the book cites."""

import re
from itertools import chain
from pathlib import Path

import pytest
from pybtex.database import Entry, parse_file

from support.tiny import REPOSITORY

ENTRIES: dict[str, Entry] = dict(parse_file(REPOSITORY / "book/references.bib").entries)
VENUE = {"article": "journal", "inproceedings": "booktitle", "misc": "eprint", "book": "publisher"}


WORDS = """
source student pairing corpus family lineage relation utility gain passage extraction proxy tier
contribution control run
"""


def pages() -> list[Path]:
    """The prose and the notebooks of the book."""
    found = chain((REPOSITORY / "book").glob("*.md"), (REPOSITORY / "notebooks").rglob("*.py"))
    return sorted(found)


def test_what_is_listed_is_cited_and_what_is_cited_is_listed() -> None:
    text = "\n".join(path.read_text("utf-8") for path in pages())
    cited = re.findall(r"\{cite:\w+\}`([^`]+)`", text)
    assert {key.strip() for keys in cited for key in keys.split(",")} == set(ENTRIES)


@pytest.mark.parametrize("key", ENTRIES)
def test_a_reference_can_be_found_by_what_it_says(key: str) -> None:
    entry = ENTRIES[key]
    assert entry.persons["author"]
    assert entry.fields["title"]
    assert entry.fields.get(VENUE[entry.type]) or entry.fields.get("howpublished")
    surname = "".join(entry.persons["author"][0].last_names)
    plain = re.sub(r"[^a-z]", "", surname.lower())
    assert re.fullmatch(rf"{plain}{entry.fields['year']}[a-z]+", key)


def test_no_work_is_listed_twice() -> None:
    titles = [re.sub(r"\W", "", entry.fields["title"]).lower() for entry in ENTRIES.values()]
    assert len(set(titles)) == len(titles)


def test_the_glossary_has_every_word_of_the_contract() -> None:
    text = (REPOSITORY / "book/glossary.md").read_text("utf-8")
    terms = re.findall(r"^([a-z][a-z ]*)\n  \S", text, re.MULTILINE)
    assert len(terms) == len(set(terms))
    assert set(WORDS.split()) <= set(terms)
