"""Networks, and the runs around them: `prune_keras.models.cifar10` and `prune_keras.models.digits`.

Every builder returns a plain `keras.Model`. Augmentation lives in the batches, never in the model,
so what a run exports holds nothing but the network.
"""
