"""An extension of Griffe, which reads the docstrings for the reference pages."""

import re

import griffe

DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1\S.*)*", re.MULTILINE)


class FencedDoctests(griffe.Extension):
    """Fence the doctests, which Markdown would take for nested quotations."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
