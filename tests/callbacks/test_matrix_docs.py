"""The table of what the callback works with, in the documentation as in the tests."""

import sys

import keras
import matrix
import pytest


def test_the_table_is_that_of_the_tests():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the table is that of TensorFlow")
    written = matrix.DOCUMENT.read_text(encoding="utf-8")
    assert matrix.document() == written, (
        f"write it anew: {sys.executable} tests/callbacks/matrix.py"
    )


def test_refusals_say_what_to_do_or_what_must_hold():
    for group in matrix.GROUPS:
        cases = matrix.cases(group)
        assert len({case.name for case in cases}) == len(cases)
        assert all(" must " in case.note or ". " in case.note for case in cases if case.refused)
