"""Charts: each is drawn for any number of layers, its labels apart, in axes of one's own too."""

import itertools
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from reports import CHARTS, HOSTILE, report

from prune_keras.accounting import Cost
from prune_keras.charts import style
from prune_keras.charts.scores import draw as draw_scores
from prune_keras.plan import Plan
from prune_keras.report import Report
from prune_keras.reporting.parts import Distribution

ROOT = Path(style.__file__).parents[1]
PLAIN = Report("net", Plan({"a": [0]}, {"a": 2}), Cost(9, None, 2), Cost(5, None, 1), ())


def drawn(chart, given, ax=None):
    figure = getattr(given, f"plot_{chart}")(ax)
    with style.styled():
        figure.draw_without_rendering()
    return figure


def labels(figure):
    """Return the boxes of all names and numbers at axes, by axes and side."""
    found = []
    for ax in [*figure.axes, *(child for a in figure.axes for child in a.child_axes)]:
        for axis in (ax.xaxis, ax.yaxis):
            shown = [each for each in axis.get_ticklabels() if each.get_text()]
            assert all(each.get_fontsize() > 6 for each in shown)
            found.append([each.get_window_extent() for each in shown if each.get_visible()])
    return found


def touching(boxes):
    return [
        (one, other)
        for place, one in enumerate(boxes)
        for other in boxes[place + 1 :]
        if one.y0 < other.y1 - 0.5
        and other.y0 < one.y1 - 0.5
        and one.x0 < other.x1 - 0.5
        and other.x0 < one.x1 - 0.5
    ]


@pytest.mark.parametrize("number", [1, 40])
@pytest.mark.parametrize("chart", CHARTS)
def test_labels_do_not_touch(chart, number):
    figure = drawn(chart, report(number, rounds=number + 1))
    for boxes in labels(figure):
        assert not touching(boxes)


@pytest.mark.parametrize("chart", CHARTS)
def test_what_axes_show_lies_in_the_figure_and_has_room(chart):
    figure = drawn(chart, report(14, name="vgg16/block{}_conv1"))
    for ax in figure.axes:
        said = ax.xaxis.label.get_window_extent()
        assert figure.bbox.x0 <= said.x0 and said.x1 <= figure.bbox.x1
        assert ax.get_window_extent().width > 0.5 * figure.bbox.width / len(figure.axes)


@pytest.mark.parametrize("zeros", [0, 5, 15, 20])
def test_scores_that_lie_far_apart_are_told_apart(zeros):
    """A median that is a millionth of the largest score still stands beside the lowest one."""
    powers = tuple(10.0**n for n in range(-14, 7))
    scores = (0.0,) * zeros + powers[zeros:]
    even = Distribution("even", 8, 2, powers, powers)
    spread = Distribution("spread", 8, 2, scores, scores)
    figure = draw_scores([even, spread])
    with style.styled():
        figure.draw_without_rendering()
    for ax in figure.axes:
        places = [ax.transData.transform((each, 0))[0] for each in scores[zeros::5]]
        assert all(b - a > 5 for a, b in itertools.pairwise(places))


def test_sizes_over_epochs_are_shares_of_the_start():
    given = report(4)
    below = drawn("curves", given).axes[1]
    first = below.get_lines()[0].get_ydata()[0]
    assert first == given.training.epochs[0]["flops"] / given.before.flops


@pytest.mark.slow
@pytest.mark.parametrize("chart", CHARTS)
def test_labels_of_200_layers_do_not_touch(chart):
    test_labels_do_not_touch(chart, 200)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_is_drawn_in_axes_of_ones_own(chart):
    figure = Figure((5, 3))
    ax = figure.subplots()
    assert drawn(chart, report(40), ax) is figure
    for boxes in labels(figure):
        assert not touching(boxes)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_is_drawn_in_axes_of_a_subfigure(chart):
    figure = Figure((5, 3))
    assert drawn(chart, report(3), figure.subfigures(1, 2)[0].subplots()) is figure


def test_numbers_of_points_touch_nothing():
    ax = Figure((3, 3)).subplots()
    points = [(n, float(n // 3), float(n % 3) / 9) for n in range(300)]
    ax.plot([x for _, x, _ in points], [y for *_, y in points], "o")
    ax.figure.draw_without_rendering()
    style.number(ax, points)
    assert 3 < len(ax.texts) < 300
    assert not touching([each.get_window_extent() for each in ax.texts])


@pytest.mark.parametrize("chart", CHARTS)
def test_names_are_shown_as_they_are(chart):
    figure = drawn(chart, report(len(HOSTILE), name=HOSTILE, monitor="$x$"))
    told = [t.get_text() for ax in figure.axes for t in ax.yaxis.get_ticklabels()]
    assert all(each.isprintable() and len(each) < 50 for each in told)
    if chart in ("widths", "architecture", "scores"):
        assert any("$x_1$" in each for each in told)


@pytest.mark.parametrize(
    "names",
    [
        [f"stage{n}/block/conv/of/some/length/inside" for n in range(9)],
        [f"some/model/with/a/long/prefix/inside/stage{n}" for n in range(9)],
        [f"some/model/with/a/prefix/stage{n}/block/conv/of/some/length" for n in range(3)],
    ],
)
def test_long_names_stay_different_where_they_can(names):
    told = style.shortened(names, 24)
    assert all(len(each) <= 24 for each in told)
    if "prefix/stage" not in names[0]:
        assert len({*told}) == len(names)


@pytest.mark.parametrize(
    "chart, told",
    [
        ("frontier", "must have a metric"),
        ("curves", "must hold `training`"),
        ("scores", "must hold `distributions`"),
        ("seconds", "must hold `seconds`"),
    ],
)
def test_what_cannot_be_drawn_is_said(chart, told):
    with pytest.raises(ValueError, match=told):
        drawn(chart, PLAIN)


@pytest.mark.parametrize("chart", ["widths", "architecture"])
def test_a_plan_alone_has_layers_to_draw(chart):
    told = [t.get_text() for t in drawn(chart, PLAIN).axes[0].yaxis.get_ticklabels()]
    assert [each.split()[0] for each in told] == ["a"]


def test_what_draws_is_loaded_where_something_is_drawn_only():
    heavy = r"^(?:from|import) (?:matplotlib|tensorboard|prune_keras\.(?:charts|reporting\.page))"
    drawing = {ROOT / "plots.py", ROOT / "reporting" / "page.py", *(ROOT / "charts").iterdir()}
    for file in ROOT.rglob("*.py"):
        assert file in drawing or not re.findall(heavy, file.read_text("utf-8"), re.M), file
