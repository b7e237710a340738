"""Escaping: text of others is shown as text, on a page and in a terminal.

A language model, a manifest or a file name may hold markup, control characters that a terminal
obeys, or marks that turn the direction of writing. People see them; nothing acts on them.
"""

import html
import unicodedata
from typing import Any

from rich.console import Console
from rich.text import Text

KEPT = "\n\t"


def visible(text: object) -> str:
    r"""Text whose unseen characters are written out: ``\x1b``, ``\u202e``.

    These are controls, marks of format and direction, surrogates, private and unassigned
    characters, and the separators of lines and paragraphs. Newlines and tabs stay.
    """
    said = str(text)
    return said if said.isprintable() else "".join(map(_written_out, said))


def _written_out(character: str) -> str:
    kind = unicodedata.category(character)
    unseen = kind.startswith("C") or kind in ("Zl", "Zp")
    if not unseen or character in KEPT:
        return character
    return character.encode("unicode_escape").decode()


def for_page(text: object) -> str:
    """Text for a page, as content of an element or as the value of an attribute."""
    return html.escape(visible(text))


def everywhere(value: Any) -> Any:
    """The same JSON with every text, and every name, made ``visible``."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(name): everywhere(part) for name, part in value.items()}
    return [everywhere(part) for part in value] if isinstance(value, list) else value


class Terminal(Console):
    """A console that shows all that it prints as ``visible`` text."""

    def render_str(self, text: str, **options: Any) -> Text:
        """What rich makes of every string that it prints, of a table's cells too."""
        return super().render_str(visible(text), **options)
