"""Steps of generated networks that make layers with several weights; see `steps`."""

import numpy as np
from keras import layers

SMALL = 5
# No bias beside channels: Keras on TensorFlow adds one along the last axis if that is as long, and
# a cut can bring that about.
EQUATIONS = {
    2: (("ab,bc->ac", "c"), ("ab,bcd->acd", "cd"), ("...b,bc->...c", None), ("ab,b->ab", "b")),
    3: (
        ("abc,cd->abd", "d"),
        ("...c,cde->...de", "de"),
        ("abc,bd->adc", None),
        ("abc,c->abc", "c"),
    ),
    4: (("abcd,cde->abe", "e"), ("ab...,bc->ac...", None), ("abcd,de->abce", None)),
}


def einsum_dense(part, x):
    rank = len(x.shape)
    if rank not in EQUATIONS or not part.channels_last:
        return None
    equation, bias_axes = part.choices.of(EQUATIONS[rank])
    read, made = equation.split(",")[0], equation.split("->")[1]
    sizes = dict(zip(read, x.shape, strict=False))
    if read.startswith("..."):  # Keras mixes up the shapes of more than one hidden axis
        sizes = dict(zip(read[::-1], x.shape[::-1], strict=False))
    width = part.choices.number(2, SMALL)
    spelled = made[3:] if made.startswith("...") else made[1:].replace("...", "")
    shape = tuple(sizes.get(letter, width) for letter in spelled)
    activation = part.choices.of((None, "tanh"))
    return layers.EinsumDense(equation, shape, bias_axes=bias_axes, activation=activation)(x)


def time_distributed(part, x):
    rank = len(x.shape)
    if rank < 3 or not part.channels_last:
        return None
    width = part.choices.number(2, SMALL)
    inner = [layers.Dense(width, activation="tanh"), layers.BatchNormalization()]
    inner += [layers.Activation("relu"), layers.EinsumDense("...a,ab->...b", width)]
    if rank > 3:
        conv = getattr(layers, f"Conv{rank - 3}D")
        inner += [conv(width, 2, padding="same"), layers.Flatten()]
    if rank == 4:
        inner += [layers.GRU(width, seed=0), layers.SimpleRNN(width, seed=0)]
    return layers.TimeDistributed(part.choices.of(inner))(x)


def spectral_normalization(part, x):
    if not part.noise or not part.channels_last:
        return None  # a step differs where norms do
    width = part.choices.number(2, SMALL)
    inner = layers.Dense(width)
    if len(x.shape) > 2 and part.choices.yes():
        inner = part.convolution(x, width, kernel_size=1)
    return layers.SpectralNormalization(inner)(x)


def _recurrent(part, **arguments):
    kind = part.choices.of((layers.LSTM, layers.GRU, layers.SimpleRNN))
    if kind is layers.GRU:
        arguments["reset_after"] = part.choices.yes()
    arguments |= {"use_bias": not part.choices.yes(4), "seed": 0}
    return kind(part.choices.number(2, SMALL), **arguments)


def _sequence(part, x):
    """Return the tensor as a sequence of vectors, or None."""
    if len(x.shape) == 2 or not part.channels_last:
        return None
    if len(x.shape) == 3:
        return x
    return layers.Reshape((int(np.prod(x.shape[1:-1])), x.shape[-1]))(x)


def recurrent(part, x):
    x = _sequence(part, x)
    if x is None:
        return None
    arguments = {"return_sequences": part.choices.yes(), "go_backwards": part.choices.yes(3)}
    return _recurrent(part, **arguments)(x)


def states(part, x):
    """Let a layer start from the states of another one."""
    x = None if part.single else _sequence(part, x)
    if x is None:
        return None
    first = _recurrent(part, return_state=True, return_sequences=part.choices.yes())
    y, *held = first(x)
    second = type(first)(first.units, seed=0, return_sequences=part.choices.yes())
    y = second(y if len(y.shape) == 3 else x, initial_state=held)
    if part.choices.yes() and len(y.shape) == 2:
        return layers.Concatenate()([y, held[-1]])
    return y


def stacked_cells(part, x):
    x = _sequence(part, x)
    if x is None:
        return None
    kinds = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
    count = part.choices.number(1, 2)
    cells = [part.choices.of(kinds)(part.choices.number(2, SMALL), seed=0) for _ in range(count)]
    cells = cells if part.choices.yes() else cells[0]
    return layers.RNN(cells, return_sequences=part.choices.yes())(x)


def both_directions(part, x):
    x = _sequence(part, x)
    if x is None:
        return None
    modes = ("concat", "sum", "mul", "ave", None)
    mode = part.choices.of(modes[:4] if part.single else modes)
    inner = _recurrent(part, return_sequences=part.choices.yes())
    y = layers.Bidirectional(inner, merge_mode=mode)(x)
    return layers.Maximum()(y) if mode is None else y


def recurrent_convolution(part, x):
    rank = len(x.shape) - 3
    if rank not in (1, 2) or not part.channels_last:
        return None
    kind = getattr(layers, f"ConvLSTM{rank}D")
    sequences = part.choices.yes()
    return kind(
        part.choices.number(2, SMALL), 2, padding="same", return_sequences=sequences, seed=0
    )(x)


def multi_head_attention(part, x):
    if part.single or not 3 <= len(x.shape) <= 4 or not part.channels_last:
        return None  # Keras has no gradient of a softmax over more axes
    choices, rank = part.choices, len(x.shape)
    key_dim, heads = choices.number(1, 3), choices.number(1, 3)
    value = x
    if rank == 3 and hasattr(layers, "GroupQueryAttention") and choices.yes(4):
        return layers.GroupQueryAttention(key_dim, 2 * heads, heads)(x, value)
    made = choices.of((None, choices.number(2, SMALL)))
    arguments = {"value_dim": choices.of((None, 3)), "output_shape": made}
    arguments["use_bias"] = not choices.yes(4)
    if rank > 3:
        arguments["attention_axes"] = choices.of((None, 1, (1, 2)))
    layer = layers.MultiHeadAttention(heads, key_dim, **arguments)
    y = layer(x, value, use_causal_mask=rank == 3 and choices.yes(3))
    return layer(y, y) if y.shape == x.shape and choices.yes(4) else y


def cross_attention(part, x):
    if part.single or len(x.shape) != 3 or not part.channels_last:
        return None
    choices = part.choices
    layer = layers.MultiHeadAttention(choices.number(1, 3), 2, value_dim=choices.number(1, 4))
    value = part.weighted(x, choices.number(2, SMALL))
    if choices.yes():
        return layer(x, value, part.weighted(x, choices.number(2, SMALL)))
    y, scores = layer(x, value, return_attention_scores=True)
    return y if choices.yes() else scores


def attention(part, x):
    """Attention without projections; a step differs where it has no weight for each channel."""
    if part.single or len(x.shape) != 3 or not part.channels_last:
        return None
    kinds = [layers.AdditiveAttention()]
    if part.noise:
        kinds += [layers.Attention(), layers.Attention(use_scale=True, score_mode="concat")]
        kinds += [layers.AdditiveAttention(use_scale=False)]
    value = part.weighted(x, x.shape[-1], activation="tanh")
    key = [part.weighted(x, x.shape[-1])] if part.choices.yes() else []
    return part.choices.of(kinds)([x, value, *key])


STEPS_SEQUENCES = (
    einsum_dense,
    time_distributed,
    spectral_normalization,
    recurrent,
    states,
    stacked_cells,
    both_directions,
    recurrent_convolution,
    multi_head_attention,
    cross_attention,
    attention,
)
