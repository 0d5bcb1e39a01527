"""All networks of keras.applications keep the promises; the large ones are slow."""

import applications
import applications_measured
import pytest

SMALL = ("MobileNet", "MobileNetV2", "MobileNetV3Small", "VGG16")


def marked(name):
    return pytest.param(name, marks=() if name in SMALL else pytest.mark.slow)


def test_the_list_has_every_constructor():
    assert set(applications.NAMES) == applications.constructors()


@pytest.mark.repeats(2)
@pytest.mark.parametrize("name", [marked(name) for name in applications.NAMES])
def test_a_network_keeps_the_promises(name):
    row = applications_measured.measured(name)
    assert applications_measured.shortcomings(row) == [], row
