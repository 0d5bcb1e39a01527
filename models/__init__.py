"""Networks, and the runs around them: `cifar10`, `digits` and `vgg16_transfer` in this package.

Every builder returns a plain `keras.Model`. Augmentation lives in the batches, never in the model,
so what a run exports holds nothing but the network.
"""
