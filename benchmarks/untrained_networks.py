"""The networks that `untrained.py` cuts, with their data; what is not there is trained first."""

import keras
import subjects
from resnet20_pair import arrays, keras_projected

from prune_keras.models import cifar10, digits, images, networks, photos, runs, vgg16_transfer

STACK_EPOCHS, HEAD_EPOCHS = 20, 15
PHOTO_SIZE = 64  # height and width, in pixels


def load(name, seed, arguments):
    """Return a trained network by name, compiled, and its three splits."""
    data = DATA[name](seed, arguments)
    if name == "resnet20":
        return subjects.load("resnet20", arguments), data
    if name == "projected":
        return projected(arguments), data
    file = arguments.models / f"dense-{name}-{seed}.keras"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.set_random_seed(seed)
        TRAINED[name](data, seed, arguments).save(file)
    model = keras.models.load_model(file)
    print(name, seed, subjects.accuracy(model, data.validation), flush=True)
    return model, data


def projected(arguments):
    """Return the same ResNet-20 with 1x1 convolutions that equal its padded shortcuts."""
    model = keras_projected(arrays(subjects.load("resnet20", arguments)))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    return model


def stack(data, seed, arguments):
    """Return the stack for CIFAR-10, trained as `prune-keras cifar10` does, for fewer epochs."""
    settings = cifar10.settings("stack", seed=seed, dense_epochs=STACK_EPOCHS, verbose=2)
    model, batches = networks.stack(), images.batches(data, settings, seed)
    steps = STACK_EPOCHS * len(batches)
    runs.compile_model(model, settings, settings.dense_learning_rate, steps)
    runs.fit(model, batches, data, settings, STACK_EPOCHS)
    return model


def digit_stack(data, seed, arguments):
    """Return a network for digits, trained for a minute."""
    model = digits.network()
    optimizer = keras.optimizers.Adam(2e-3)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*data.train, batch_size=32, epochs=15, verbose=0)
    return model


def vgg16(data, seed, arguments):
    """Return VGG-16 for cats and dogs, with a head that was trained on what it makes of photos."""
    settings = vgg16_transfer.settings(PHOTO_SIZE, seed, "float32")
    model = vgg16_transfer.build(PHOTO_SIZE, weights=arguments.data / "vgg16_notop.h5")
    vgg16_transfer.train_head(model, data, settings, HEAD_EPOCHS)
    return runs.compile_model(model, settings, 0.0, 1)


def of_cifar10(seed, arguments):
    return subjects.cifar10(arguments)


def of_digits(seed, arguments):
    return digits.load_data(seed)


def of_photos(seed, arguments):
    return photos.load_data(arguments.data / "cats_vs_dogs", PHOTO_SIZE)


DATA = dict.fromkeys(("resnet20", "projected", "stack"), of_cifar10)
DATA |= {"digits": of_digits, "vgg16": of_photos}
TRAINED = {"stack": stack, "digits": digit_stack, "vgg16": vgg16}
