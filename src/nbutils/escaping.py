"""Escaping: untrusted text is shown as text, on a page and in a terminal.

The output of a language model, a manifest or a file name may contain markup, control characters
that a terminal obeys, or marks that change the direction of writing. They are made visible, so
that nothing acts on them.
"""

import html
import unicodedata
from typing import Any

from rich.console import Console
from rich.text import Text

UNESCAPED = "\n\t"


def visible(text: object) -> str:
    r"""Text with its invisible characters escaped, such as ``\x1b`` or ``\u202e``.

    These are control, format, surrogate, private and unassigned characters, and the separators of
    lines and paragraphs. Newlines and tabs are not escaped.
    """
    string = str(text)
    return string if string.isprintable() else "".join(map(_escaped, string))


def _escaped(character: str) -> str:
    category = unicodedata.category(character)
    invisible = category.startswith("C") or category in ("Zl", "Zp")
    if not invisible or character in UNESCAPED:
        return character
    return character.encode("unicode_escape").decode()


def for_page(text: object) -> str:
    """Text for a page, as content of an element or as the value of an attribute."""
    return html.escape(visible(text))


def everywhere(value: Any) -> Any:
    """A JSON value in which all strings and all keys are ``visible``."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(name): everywhere(part) for name, part in value.items()}
    return [everywhere(part) for part in value] if isinstance(value, list) else value


class Terminal(Console):
    """A console that prints all text as ``visible`` text."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text that rich prints for a string, also in the cells of a table."""
        return super().render_str(visible(text), **options)
