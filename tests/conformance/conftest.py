"""What tests of rules start from."""

import keras
import pytest


@pytest.fixture
def image():
    return keras.Input((4, 6, 3))
