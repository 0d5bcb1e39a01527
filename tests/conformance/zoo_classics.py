"""Networks of the first years of deep learning."""

import keras
from keras import layers
from zoo import network


@network("scores")
def lenet():
    """LeCun et al., Gradient-based learning applied to document recognition, 1998."""
    return keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            layers.Conv2D(6, 3, padding="same", activation="tanh", name="c1"),
            layers.AveragePooling2D(2, name="s2"),
            layers.Conv2D(8, 3, activation="tanh", name="c3"),
            layers.AveragePooling2D(2, name="s4"),
            layers.Flatten(name="flat"),
            layers.Dense(12, activation="tanh", name="f5"),
            layers.Dense(8, activation="tanh", name="f6"),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )
