"""Read `.keras` files where KerasHub cannot be imported, and write their outputs beside them.

Each `NAME.keras` has its inputs in `NAME.npz`, in the order of the model's; outputs go to
`NAME.out.npz`.
"""

import sys
from pathlib import Path

sys.modules["keras_hub"] = None
sys.modules["prune_keras"] = None
import keras  # noqa: E402
import numpy as np  # noqa: E402

for path in map(Path, sys.argv[1:]):
    model = keras.models.load_model(path)
    arrays = [*np.load(path.with_suffix(".npz")).values()]
    x = keras.tree.pack_sequence_as(model._inputs_struct, arrays)
    made = keras.tree.flatten(
        model(keras.tree.map_structure(keras.ops.convert_to_tensor, x), training=False)
    )
    np.savez(path.with_suffix(".out.npz"), *(keras.ops.convert_to_numpy(y) for y in made))
