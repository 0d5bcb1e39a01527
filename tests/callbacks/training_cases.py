"""Cases of ways to train that tests of their own run; `matrix.py` lists them."""

from matrix import Case

BATCHED = Case(
    "`batches_per_round=2`",
    "cuts within an epoch, with the optimizer's state; all rounds of an epoch are judged, and "
    "undone, together",
)
DATA = Case(
    "`data` alone, with or without targets",
    "scores and repairs by what [suits them](choosing.md); a "
    "first line tells it; a round that is undone brings back what was fused",
)
MIRRORED = Case(
    "`tf.distribute.MirroredStrategy`",
    "model made and compiled in `strategy.scope()`; each device holds the thin weights",
)
HELD = Case(
    "layers, submodels and the optimizer in variables of your own",
    "they stay the objects that the model has, and are thin",
)
VIEW = Case(
    "a feature extractor on the same graph, or the base that the model was built on",
    "it follows each cut; what it was compiled to is made anew",
)
BESIDE = Case(
    "another model that calls the same layers, or calls the model",
    "A model that is cut in place must not share layers with another one",
    refused=True,
)
SUBCLASSED = Case(
    "a model with a `call` of its own",
    "the `call` is looked into; layers inside of it and own weights get thin where they stand",
)
UNSEEN = Case(
    "a model whose `call` works on values of tensors",
    "The `call` of a model must be made of Keras' layers and keras.ops to be looked into",
    refused=True,
)
