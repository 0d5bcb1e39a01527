"""Recurrent networks, over numbers, tokens and frames."""

import keras
from keras import layers, ops
from zoo import network


@network("next")
def elman():
    """Elman, Finding structure in time, 1990."""
    return keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.SimpleRNN(8, return_sequences=True, name="context"),
            layers.Dense(3, name="next"),
        ]
    )


@network("scores")
def stacked_lstm():
    """Graves et al., Speech recognition with deep recurrent neural networks, 2013."""
    inputs = keras.Input((4, 3))
    x = layers.LSTM(8, return_sequences=True, seed=0, name="first")(inputs)
    x = layers.LSTM(7, return_sequences=True, seed=0, name="second")(x)
    x = layers.LSTM(6, seed=0, name="third")(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))


@network("scores")
def bidirectional_lstm():
    """Schuster and Paliwal, Bidirectional recurrent neural networks, 1997; 0 pads the text."""
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 6, mask_zero=True, name="words")(tokens)
    cell = layers.LSTM(6, return_sequences=True, seed=0, name="lstm")
    x = layers.Bidirectional(cell, name="first")(x)
    x = layers.Bidirectional(layers.LSTM(5, seed=0, name="lstm"), name="second")(x)
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    return keras.Model(tokens, layers.Dense(2, activation="softmax", name="scores")(x))


@network("scores")
def bidirectional_gru():
    """Yang et al., Hierarchical attention networks, 2016: its encoder of words."""
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 6, name="words")(tokens)
    cell = layers.GRU(6, return_sequences=True, seed=0, name="gru")
    x = layers.Bidirectional(cell, name="encoder")(x)
    # How much a word matters: a projection of it, beside a context vector.
    shown = layers.Dense(7, activation="tanh", name="shown")(x)
    matters = layers.Softmax(axis=1, name="matters")(
        layers.Dense(1, use_bias=False, name="context")(shown)
    )
    x = ops.sum(matters * x, axis=1)
    return keras.Model(tokens, layers.Dense(2, activation="softmax", name="scores")(x))


@network("tokens")
def translator_of_sequences():
    """Sutskever et al., Sequence to sequence learning with neural networks, 2014."""
    read, written = (keras.Input((n,), dtype="int32") for n in (5, 4))
    x = layers.Embedding(5, 6, name="read")(read)
    x, *states = layers.LSTM(
        7, return_sequences=True, return_state=True, go_backwards=True, seed=0, name="encoder1"
    )(x)
    _, *deeper = layers.LSTM(6, return_state=True, seed=0, name="encoder2")(x)
    y = layers.Embedding(5, 6, name="written")(written)
    y = layers.LSTM(7, return_sequences=True, seed=0, name="decoder1")(y, initial_state=states)
    y = layers.LSTM(6, return_sequences=True, seed=0, name="decoder2")(y, initial_state=deeper)
    return keras.Model([read, written], layers.Dense(5, activation="softmax", name="tokens")(y))


@network("tokens")
def translator_that_attends():
    """Bahdanau et al., Neural machine translation by jointly learning to align, 2015."""
    read, written = (keras.Input((n,), dtype="int32") for n in (5, 4))
    x = layers.Embedding(5, 6, name="read")(read)
    cell = layers.GRU(4, return_sequences=True, return_state=True, seed=0, name="gru")
    x, forward, backward = layers.Bidirectional(cell, name="encoder")(x)
    start = layers.Concatenate(name="start")([forward, backward])
    start = layers.Dense(7, activation="tanh", name="bridge")(start)
    y = layers.Embedding(5, 6, name="written")(written)
    y = layers.GRU(7, return_sequences=True, seed=0, name="decoder")(y, initial_state=start)
    query = layers.Dense(5, use_bias=False, name="query")(y)
    key = layers.Dense(5, use_bias=False, name="key")(x)
    found = layers.AdditiveAttention(name="attention")([query, x, key])
    y = layers.Concatenate(name="beside")([y, found])
    return keras.Model([read, written], layers.Dense(5, name="tokens")(y))


@network("frames")
def convolutional_lstm():
    """Shi et al., Convolutional LSTM network, 2015: frames that come next."""
    frames = keras.Input((3, 5, 5, 2))
    options = {"padding": "same", "return_sequences": True, "seed": 0}
    x = layers.ConvLSTM2D(6, 3, **options, name="first")(frames)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ConvLSTM2D(5, 3, **options, name="second")(x)
    return keras.Model(frames, layers.Conv3D(2, 3, padding="same", name="frames")(x))


@network("scores")
def frames_then_lstm():
    """Donahue et al., Long-term recurrent convolutional networks, 2015."""
    frames = keras.Input((3, 8, 8, 2))
    x = layers.TimeDistributed(layers.Conv2D(6, 3, use_bias=False, name="conv1"), name="c1")(frames)
    x = layers.TimeDistributed(layers.BatchNormalization(name="norm"), name="n1")(x)
    x = layers.TimeDistributed(layers.Activation("relu"), name="r1")(x)
    x = layers.TimeDistributed(layers.MaxPooling2D(2), name="p1")(x)
    conv = layers.Conv2D(5, 2, activation="tanh", name="conv2")
    x = layers.TimeDistributed(conv, name="c2")(x)
    x = layers.TimeDistributed(layers.Flatten(), name="flat")(x)
    x = layers.LSTM(6, seed=0, name="lstm")(x)
    return keras.Model(frames, layers.Dense(3, activation="softmax", name="scores")(x))


@network("scores")
def cells_on_cells():
    """Several cells that one layer runs step by step, as Keras' StackedRNNCells."""
    inputs = keras.Input((4, 3))
    cells = [
        layers.LSTMCell(6, seed=0, name="lstm"),
        layers.GRUCell(5, seed=0, name="gru"),
        layers.SimpleRNNCell(7, seed=0, name="simple"),
    ]
    x = layers.RNN(layers.StackedRNNCells(cells), return_sequences=True, name="cells")(inputs)
    x = layers.GRU(5, reset_after=False, seed=0, name="last")(x)
    return keras.Model(inputs, layers.Dense(3, name="scores")(x))


@network("scores")
def speech_from_spectra():
    """Amodei et al., Deep Speech 2, 2016: convolutions in time, recurrent layers both ways."""
    spectra = keras.Input((8, 6, 1))
    x = layers.Conv2D(4, 3, (2, 1), padding="same", use_bias=False, name="conv")(spectra)
    x = layers.ReLU(max_value=20, name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.Reshape((4, 24), name="frames")(x)
    for number in range(2):
        cell = layers.GRU(5, return_sequences=True, seed=0, name="gru")
        x = layers.Bidirectional(cell, merge_mode="sum", name=f"both{number}")(x)
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(spectra, layers.Dense(4, activation="softmax", name="scores")(x))
