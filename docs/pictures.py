"""Draw the pictures of the documentation, as SVG.

    python docs/pictures.py

Those of measured things read the tables in results/; the others are sketches of an idea.
"""

import csv
from html import escape
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
RESULTS = ROOT / "results"

INK, GREY, PALE = "#22303a", "#7b8a94", "#dfe5e8"
KEPT, CUT = "#00796b", "#d95f02"


class Picture:
    """A drawing on a white card, which is read on light and on dark pages alike."""

    def __init__(self, width, height, title):
        self.size, self.title, self.parts = (width, height), title, []

    def box(self, x, y, width, height, fill="none", stroke="none", dash="", round=2):
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round}" '
            f'fill="{fill}" stroke="{stroke}" stroke-dasharray="{dash}"/>'
        )

    def dot(self, x, y, radius=7, fill=KEPT, stroke="none"):
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{stroke}"/>'
        )

    def line(self, *points, stroke=GREY, width=1.5, dash="", arrow=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        end = ' marker-end="url(#arrow)"' if arrow else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width}" '
            f'stroke-dasharray="{dash}"{end}/>'
        )

    def text(self, x, y, words, size=14, fill=INK, anchor="start", weight="normal", turn=0):
        turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" '
            f'text-anchor="{anchor}" font-weight="{weight}"{turned}>{escape(words)}</text>'
        )

    def save(self, name):
        width, height = self.size
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" font-family="sans-serif">\n'
            f"<title>{escape(self.title)}</title>\n"
            '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{GREY}"/></marker>'
        )
        card = f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>'
        lines = [head, card, *self.parts, "</svg>"]
        (FOLDER / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def rows(*path):
    with (RESULTS.joinpath(*path)).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def over_seeds(table, network, column):
    """Return the mean over the seeds of the VGG-16 runs of one number of a network."""
    found = [
        row
        for seed in range(3)
        for row in rows("vgg16_cats_vs_dogs", f"seed{seed}", table)
        if row["network"] == network
    ]
    return mean(float(row[column]) for row in found)


def vgg16():
    """The widths of VGG-16 before and after, and what that came to."""
    picture = Picture(920, 330, "VGG-16 before and after pruning")
    picture.text(
        20, 30, "VGG-16, fine-tuned on cats and dogs, pruned while it trains", 17, weight="bold"
    )
    picture.text(20, 52, "units of each layer: before (outline), after (filled)", 13, GREY)
    for i, row in enumerate(rows("vgg16_cats_vs_dogs", "seed0", "widths.csv")):
        x, before, after = 24 + 40 * i, int(row["before"]), int(row["after"])
        for units, style in ((before, (PALE, GREY)), (after, (KEPT, "none"))):
            height = 175 * units / 512
            picture.box(x, 258 - height, 30, height, *style)
        picture.text(x + 15, 252 - 175 * before / 512, str(before), 11, GREY, "middle")
        top = 258 - 175 * after / 512
        y, ink = (top + 14, "#ffffff") if top < 240 else (top - 3, KEPT)
        picture.text(x + 15, y, str(after), 11, ink, "middle", "bold")
        name = row["layer"].rpartition("/")[2].replace("block", "").replace("_conv", ".")
        picture.text(x + 15, 276, name, 11, INK, "middle")
    picture.text(20, 304, "conv block.layer; one of three seeds", 12, GREY)
    _outcome(picture)
    picture.save("vgg16.svg")


def _outcome(picture):
    """What dense and pruned networks come to, means over three seeds."""
    dense, pruned = "dense, trained on", "pruned"
    measured = [
        ("parameters", "results.csv", "params", 1e6, "{:.1f} M", dense),
        ("FLOPs", "results.csv", "flops", 1e9, "{:.1f} G", dense),
        ("ms a photo, CPU", "speed.csv", "latency_ms_1", 1, "{:.1f}", "dense"),
        ("test accuracy", "results.csv", "test_accuracy", 0.01, "{:.1f} %", dense),
    ]
    for i, (label, table, column, unit, form, before) in enumerate(measured):
        y = 72 + 60 * i
        values = [over_seeds(table, network, column) / unit for network in (before, pruned)]
        picture.text(620, y, label, 13, weight="bold")
        for j, (value, fill) in enumerate(zip(values, (PALE, KEPT), strict=True)):
            picture.box(
                620, y + 7 + 18 * j, 200 * value / values[0], 14, fill, GREY if j == 0 else "none"
            )
            picture.text(828, y + 19 + 18 * j, form.format(value), 13)
    picture.text(620, 316, "means over three seeds; both trained as long", 12, GREY)


def neuron():
    """Removing one neuron takes a column of one kernel and a row of the next."""
    picture = Picture(720, 290, "A neuron is a column of one kernel and a row of the next")
    picture.text(20, 30, "Remove a neuron, and both kernels get smaller", 17, weight="bold")
    _matrix(picture, 60, 90, 4, 6, column=3)
    _matrix(picture, 330, 70, 6, 4, row=3)
    picture.text(132, 76, "kernel of layer 1: 4 x 6", 13, INK, "middle")
    picture.text(378, 56, "kernel of layer 2: 6 x 4", 13, INK, "middle")
    picture.line((214, 150), (318, 150), arrow=True)
    picture.text(266, 140, "6 channels", 13, INK, "middle")
    picture.text(132, 212, "its weights: a column", 13, CUT, "middle")
    picture.text(378, 236, "what reads it: a row", 13, CUT, "middle")
    picture.line((452, 150), (500, 150), arrow=True)
    _matrix(picture, 520, 106, 4, 5, size=16)
    _matrix(picture, 625, 98, 5, 4, size=16)
    picture.text(610, 80, "4 x 5 and 5 x 4", 13, INK, "middle")
    picture.text(610, 212, "a smaller model,", 13, INK, "middle")
    picture.text(610, 230, "not one with zeros", 13, INK, "middle")
    picture.text(
        20,
        272,
        "Biases, batch normalization and the optimizer's state lose the same entry.",
        13,
        GREY,
    )
    picture.save("neuron.svg")


def _matrix(picture, x, y, height, width, column=None, row=None, size=24):
    for i in range(height):
        for j in range(width):
            goes = i == row or j == column
            fill = "#ffffff" if goes else KEPT
            edge = (CUT, "3 2") if goes else ("#ffffff", "")
            picture.box(x + j * size, y + i * size, size - 2, size - 2, fill, *edge)


def coupling():
    """Layers whose outputs are added must lose the same channels."""
    picture = Picture(720, 280, "A residual addition couples channels")
    picture.text(20, 30, "What is added together goes together", 17, weight="bold")
    for x, name in ((60, "conv a"), (330, "conv b"), (560, "conv c")):
        picture.box(x, 90, 100, 110, "#f4f7f8", GREY, round=6)
        picture.text(x + 50, 82, name, 14, INK, "middle", "bold")
        for k in range(4):
            goes = k == 2 and name != "conv c"
            picture.dot(
                x + 50, 110 + 24 * k, 8, "#ffffff" if goes else KEPT, CUT if goes else "none"
            )
    picture.line((160, 145), (330, 145), arrow=True)
    picture.line((430, 145), (470, 145), arrow=True)
    picture.dot(484, 145, 13, "#ffffff", INK)
    picture.text(484, 150, "+", 17, INK, "middle")
    picture.line((498, 145), (560, 145), arrow=True)
    picture.line((230, 145), (230, 225), (484, 225), (484, 160), arrow=True)
    picture.text(356, 218, "shortcut", 13, GREY, "middle")
    picture.text(
        20, 262, "Channel 3 of a and channel 3 of b are one neuron: c reads their sum.", 13, CUT
    )
    picture.save("coupling.svg")


def debias():
    """Scores of two layers before and after each is divided by its mean."""
    picture = Picture(720, 290, "A debias makes the scores of layers comparable")
    picture.text(20, 30, "A debias makes scores of different layers comparable", 17, weight="bold")
    first, second = (0.10, 0.14, 0.19, 0.23, 0.27, 0.33), (0.42, 0.52, 0.66, 0.78, 0.88, 0.96)
    low = mean(first), mean(second)
    after = [
        tuple(0.48 * s / m for s in scores) for scores, m in zip((first, second), low, strict=True)
    ]
    for x, title, (top, bottom), note in (
        (40, "as scored", (first, second), "layer 1 would go as a whole"),
        (390, "divided by each layer's mean", after, "each layer loses its own least"),
    ):
        picture.text(x, 66, title, 14, weight="bold")
        ranked = sorted(top + bottom)
        edge = (ranked[5] + ranked[6]) / 2
        for y, name, scores in ((120, "layer 1", top), (190, "layer 2", bottom)):
            picture.line((x, y), (x + 290, y), stroke=PALE)
            picture.text(x, y - 14, name, 13, GREY)
            for score in scores:
                goes = score < edge
                fill, stroke = ("#ffffff", CUT) if goes else (KEPT, "none")
                picture.dot(x + 290 * score, y, 8, fill, stroke)
        picture.line((x + 290 * edge, 84), (x + 290 * edge, 214), stroke=CUT, dash="5 4")
        picture.text(x, 244, note, 13, CUT)
    picture.text(
        20,
        276,
        "Half of the neurons go, those left of the line. Scores grow to the right.",
        13,
        GREY,
    )
    picture.save("debias.svg")


def rounds():
    """Cut, fine-tune, judge; what falls below the floor is undone."""
    picture = Picture(720, 300, "Rounds of cutting and fine-tuning above a floor")
    picture.text(
        20, 30, "Rounds: cut, fine-tune, judge; undo what falls below the floor", 17, weight="bold"
    )
    picture.line((60, 60), (60, 235), stroke=INK)
    picture.line((60, 235), (690, 235), stroke=INK, arrow=True)
    picture.text(690, 254, "epochs", 13, GREY, "end")
    picture.text(34, 150, "validation accuracy", 13, GREY, "middle", turn=-90)
    picture.line((60, 150), (690, 150), stroke=CUT, dash="6 4")
    picture.text(690, 143, "floor: start - max_drop", 13, CUT, "end")
    course = [(60, 92), (140, 92), (141, 170), (240, 100), (241, 178), (340, 112), (341, 205)]
    picture.line(*course, (440, 162), stroke=KEPT, width=2.5)
    picture.line((440, 162), (455, 112), stroke=GREY, dash="3 3", width=2)
    picture.line((455, 112), (456, 165), (540, 116), (670, 96), stroke=KEPT, width=2.5)
    for x, words in ((141, "cut"), (241, "cut"), (341, "cut"), (456, "half a cut")):
        picture.text(x, 254, words, 13, INK, "middle")
    picture.text(455, 100, "undone", 13, GREY, "middle")
    picture.text(600, 86, "fine-tuning", 13, KEPT, "middle")
    picture.text(20, 286, "A sketch, not a measurement.", 12, GREY)
    picture.save("rounds.svg")


def repair():
    """Accuracy right after one cut, by what the score and the repair are."""
    picture = Picture(720, 250, "Accuracy right after a cut, with and without repair")
    picture.text(20, 30, "Right after one cut to half the FLOPs, no training", 17, weight="bold")
    table = rows("scores", "first_cut.csv")
    bars = [
        ("l2, no repair", "l2", "none"),
        ("l2, fused weights", "l2", "weights"),
        ("default score, no repair", "mean(taylor, reconstruction)", "none"),
        ("default score, fused weights", "mean(taylor, reconstruction)", "weights"),
    ]
    for i, (label, criterion, how) in enumerate(bars):
        wanted = {"network": "stack", "criterion": criterion, "debias": "mean", "flops": "0.5"}
        found = [row for row in table if wanted.items() | {("repair", how)} <= row.items()]
        y, accuracy = 58 + 38 * i, 100 * mean(float(row["accuracy"]) for row in found)
        picture.text(220, y + 18, label, 14, INK, "end")
        picture.box(230, y, 4.2 * accuracy, 26, KEPT if how == "weights" else GREY)
        picture.text(222 + 4.2 * accuracy, y + 18, f"{accuracy:.1f} %", 14, "#ffffff", "end")
    picture.line((230 + 4.2 * 82.8, 50), (230 + 4.2 * 82.8, 212), stroke=CUT, dash="5 4")
    picture.text(230 + 4.2 * 82.8, 230, "before the cut: 82.8 %", 13, CUT, "middle")
    picture.text(20, 242, "CIFAR-10, validation", 12, GREY)
    picture.save("repair.svg")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw in (vgg16, neuron, coupling, debias, rounds, repair):
        draw()
