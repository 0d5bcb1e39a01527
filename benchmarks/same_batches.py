"""Shuffled, flipped and shifted batches that are the same in every framework: NumPy alone."""

import math

import numpy as np

SHIFT = 4


class SameBatches:
    """What a batch holds depends on the seed, the epoch and its place only.

    Args:
        images: `(n, height, width, channels)`.
        labels: `(n,)`.
        size: images a batch.
        seed: an integer.
    """

    def __init__(self, images, labels, size, seed):
        self.images = np.pad(images, [(0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)])
        self.labels, self.size, self.seed = labels, size, seed

    def __len__(self):
        return math.ceil(len(self.labels) / self.size)

    def batch(self, epoch, place):
        """Return the images and labels of one batch."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.labels))
        chosen = order[place * self.size : (place + 1) * self.size]
        random = np.random.default_rng((self.seed, epoch, place))
        corners = random.integers(0, 2 * SHIFT + 1, (len(chosen), 2))
        side = self.images.shape[1] - 2 * SHIFT
        pairs = zip(chosen, corners, strict=True)
        images = np.stack([self.images[i, y : y + side, x : x + side] for i, (y, x) in pairs])
        mirrored = random.random(len(chosen)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        return images, self.labels[chosen]
