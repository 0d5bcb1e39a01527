"""Which cuts `untrained.py` makes of each network, and which it looks at test images for."""

from typing import NamedTuple

from first_cut import TWO

NETWORKS = ("resnet20", "projected", "stack", "vgg16", "digits")
TESTED = ("resnet20", "stack", "vgg16")
OBS = ("obs", "none")
OLD = (TWO, "mean")
IMAGES = {"vgg16": "512"}
BEST = (*OBS, "optimal", "sequential")
NOW, BEFORE = (*OLD, "global", "sequential"), (*OLD, "global", "weights")
SHARES = ("0.5", "0.7", "0.4", "0.9", "0.25")
OTHER_SHARES = {"vgg16": ("0.33",)}  # of which the most telling is the first


class Way(NamedTuple):
    """How a network is cut; all fields are texts, as in the table."""

    criterion: str
    debias: str
    scope: str
    repair: str
    images: str
    seed: str


KEYS = ("network", *Way._fields, "steps", "flops")


def cuts(name, seeds):
    """Yield how to cut, in how many steps, and to which shares, the most telling first."""
    if name == "resnet20":
        yield from cuts_of_resnet20()
    elif name == "digits":
        yield from (each for seed in seeds for each in cuts_of_digits(seed))
    else:
        yield from cuts_of_others(name)


def cuts_of_others(name):
    """Yield fewer cuts, of a network that takes longer or says less."""
    shares, images = OTHER_SHARES.get(name, SHARES), IMAGES.get(name, "1024")
    for way in (NOW, BEST, BEFORE):
        yield Way(*way, images, "0"), 1, shares[:1]
    for way in (NOW, BEST, BEFORE, (*OLD, "global", "none"), (*OBS, "global", "sequential")):
        yield Way(*way, images, "0"), 1, shares
    for seed in ("1", "2"):
        for way in (NOW, BEST, BEFORE):
            yield Way(*way, images, seed), 1, shares[:1]
    for count in () if name == "vgg16" else ("256", "4096"):
        for way in (BEST, NOW):
            yield Way(*way, count, "0"), 1, shares[:1]
    for seed in ("1", "2") if name == "stack" else ():
        for way in (BEST, NOW):
            yield Way(*way, "4096", seed), 1, shares[:1]
    yield Way(*BEST, images, "0"), 4, shares[:1]
    yield Way("l2", "mean", "global", "sequential", images, "0"), 1, shares[:2]
    yield Way("l2", "mean", "global", "none", images, "0"), 1, shares[:2]


def cuts_of_resnet20():
    plain = (*OBS, "global", "sequential"), NOW
    for way in (BEST, *plain, BEFORE):
        yield Way(*way, "1024", "0"), 1, ("0.5", "0.7")
    for seed in ("1", "2"):
        for way in (BEST, *plain, BEFORE):
            yield Way(*way, "1024", seed), 1, ("0.5",)
    for seed in ("0", "1", "2"):
        yield Way(*BEST, "1024", seed), 4, ("0.5",)
    for way in (BEST, BEFORE, NOW):
        yield Way(*way, "1024", "0"), 1, ("0.9", "0.4", "0.25")
    for images in ("256", "4096"):
        yield Way(*BEST, images, "0"), 1, ("0.5",)
    for criterion in ("l2", "taylor"):
        for repair in ("weights", "sequential"):
            yield Way(criterion, "mean", "global", repair, "1024", "0"), 1, ("0.5", "0.7")
    others = [(*OBS, "optimal"), (*OBS, "global"), ("reconstruction", "mean", "global")]
    for way in (*others, ("obs", "mean", "global"), ("obs", "flops", "global")):
        yield Way(*way, "weights", "1024", "0"), 1, ("0.5", "0.7")


def cuts_of_digits(seed):
    """Yield cuts of a small network that was trained with a seed, on 997 images."""
    for criterion in ("obs", TWO, "taylor", "reconstruction", "l2"):
        by = "none" if criterion == "obs" else "mean"
        for scope in ("global", "optimal") if criterion == "obs" else ("global",):
            for repair in ("weights", "sequential"):
                yield Way(criterion, by, scope, repair, "997", seed), 1, ("0.5", "0.25", "0.1")


def chosen(name):
    """Yield what is measured on test images, once: what left most, and what is done by itself."""
    first, *others = OTHER_SHARES.get(name, SHARES)
    images = IMAGES.get(name, "1024")
    for way in (BEST, NOW, BEFORE):
        for seed in ("0", "1", "2"):
            yield (*way, images, seed, "1", first)
    yield (*BEST, images, "0", "4", first)
    for way in (BEST,) if name == "resnet20" else (BEST, NOW):
        for share in others:
            yield (*way, images, "0", "1", share)
