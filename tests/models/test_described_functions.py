"""Functions of arguments are told apart by all that decides what they do."""

import pytest

from prune_keras.models.fingerprints import of_value


class Schedule:
    def __init__(self, power):
        self.power = power
        self.itself = self

    def at(self, share):
        return share**self.power


class Plain(Schedule):
    def __init__(self, power):
        self.power = power


def by_keyword(power):
    def at(share, *, power=power):
        return share**power

    return at


PAIRS = {
    "defaults by keyword": (by_keyword(1), by_keyword(2)),
    "objects of methods": (Plain(1).at, Plain(2).at),
    "built-in functions": (max, min),
}


@pytest.mark.parametrize("name", PAIRS)
def test_they_differ(name):
    one, other = PAIRS[name]
    assert of_value(one) == of_value(one)
    assert of_value(one) != of_value(other)


def test_an_object_that_holds_itself_counts_by_its_class():
    assert of_value(Schedule(1).at) == of_value(Schedule(2).at)
