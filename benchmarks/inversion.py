"""What VGG-16's layers tell of a photo, from shallow to deep: all, kept and random channels.

    python benchmarks/inversion.py --data DIR

`DIR` holds `vgg16_notop.h5` and `cats_vs_dogs`. The network has ImageNet's weights as they are, and
the channels are those that `results/vgg16_cats_vs_dogs/seed0/plan.json` keeps, a plan that was made
after this network had been fine-tuned. Every layer is a row of the picture, and three of the table.
"""

import argparse
from pathlib import Path

import measuring

from prune_keras.models import inversion, records, vgg16
from prune_keras.models.preimages import Search
from prune_keras.plan import Plan

LAYERS = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3")
IMAGE, SIZE = "cats_vs_dogs/validation/cats/cat.4005.jpg", 96
RESULTS = measuring.RESULTS.parent
PLAN = RESULTS / "vgg16_cats_vs_dogs" / "seed0" / "plan.json"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Search().steps)
    parser.add_argument("--output", type=Path, default=RESULTS / "inversion")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    model = vgg16.build(image_size=SIZE, weights=options.data / "vgg16_notop.h5")
    photo = inversion.read_image(options.data / IMAGE, model)
    search, plan = Search(steps=options.steps), Plan.load(PLAN)
    found = []
    for layer in LAYERS:
        found += inversion.invert(model, photo, layer, plan, search, seed=measuring.SEED)
        inversion.draw(photo, found, options.output / "inversion.png")
        path = options.output / "inversion.csv"
        records.write_table(path, [inversion.errors(each) for each in found])
        measuring.write_settings(path, image=IMAGE, size=SIZE, search=vars(search))


if __name__ == "__main__":
    main()
