"""What CONTRIBUTING.md and book/extend.md say, for tests that hold the project to it."""

import re

from support.tiny import REPOSITORY


def section(heading: str, page: str = "CONTRIBUTING.md") -> str:
    """The text under a heading, such as ``## Words``, up to the next of its rank or higher."""
    text = (REPOSITORY / page).read_text("utf-8")
    rank = len(heading.partition(" ")[0])
    return re.split(rf"\n#{{1,{rank}}} ", text.split(f"\n{heading}\n", 1)[1])[0]


def table(heading: str) -> list[list[str]]:
    """Names in the first column of the table under a heading, row by row; brackets left out."""
    rows = [x.split("|")[1] for x in section(heading).splitlines() if x.startswith("|")][2:]
    return [re.findall(r"[\w.-]+", re.sub(r"\(.*?\)", "", row)) for row in rows]


def blocks(heading: str, page: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block under a heading of a page, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", section(heading, page), re.DOTALL | re.MULTILINE)
