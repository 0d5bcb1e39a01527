"""What ProgressivePruning does before the first batch, in seconds.

    python benchmarks/first_batch.py

ResNet50 as Keras has it, as a class of one's own, and with a regularizer of one's own on every
kernel: what is not Keras' is tried before it is trusted. The optimizer's state is there before, as
`fit` would make it with the first batch. A copy of all state, to go back to, is told apart.
"""

import argparse
import json

import measuring

REPETITIONS = 5
KINDS = ("keras", "subclass", "regularizer")


def main():
    rows = []
    for kind in KINDS:
        found = [measuring.in_fresh_process(__file__, "--kind", kind) for _ in range(REPETITIONS)]
        rows.append({"model": kind} | measuring.medians(found))
    measuring.finish("first_batch", rows, repetitions=REPETITIONS, pixels=224)


def measure(kind):
    """Return seconds of `on_train_begin` for a model of this kind, and of its copy of the state."""
    import keras

    import prune_keras
    from prune_keras.callbacks import ProgressivePruning
    from prune_keras.surgery import capture

    keras.utils.set_random_seed(measuring.SEED)
    model = built(kind)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    trace, graph = measuring.seconds(lambda: prune_keras.trace(model))
    copy, _ = measuring.seconds(lambda: capture(model, graph))
    callback = ProgressivePruning(target={"flops": 0.5}, verbose=0)
    callback.set_model(model)
    callback.set_params({"epochs": 1, "steps": 1})
    whole, _ = measuring.seconds(callback.on_train_begin)
    return {"seconds": whole, "of which the copy": copy, "first trace": trace}


def built(kind):
    import keras

    model = keras.applications.ResNet50(weights=None)
    if kind == "subclass":

        class Own(keras.Model):
            """A model with a step of its own."""

            def train_step(self, data):
                return super().train_step(data)

        model = Own(model.inputs, model.outputs, name="own")
    if kind == "regularizer":
        for layer in model.layers:
            if hasattr(layer, "kernel_regularizer"):
                layer.kernel_regularizer = lambda kernel: 1e-4 * keras.ops.sum(kernel**2)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS)
    chosen = parser.parse_args()
    if chosen.kind:
        print(json.dumps(measure(chosen.kind)))
    else:
        main()
