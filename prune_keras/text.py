"""Text for terminals: names from a file may hold anything, escape sequences too."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""Return one line of text in which what is no visible character or space is escaped.

    Control characters, line breaks, marks that turn the direction of writing, and halves of
    surrogate pairs become what Python writes for them.

    Example:

    >>> print(printable("dense\x1b[31m\n\u202e"))
    dense\x1b[31m\n\u202e
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def printable_lines(text: object) -> str:
    """Return text in which all but its line breaks is as `printable` returns it."""
    return "\n".join(map(printable, str(text).split("\n")))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
