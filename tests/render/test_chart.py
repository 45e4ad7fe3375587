import itertools
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import OptionError
from graphnn.render.chart import line_chart
from graphnn.render.palette import SERIES
from graphnn.render.scale import decimate, scale_of
from graphnn.training.history import History

SVG = "{http://www.w3.org/2000/svg}"
LOSS = {"training": [(1, 2.0), (2, 1.0), (3, 0.5)], "validation": [(1, 2.1), (2, 0.9), (3, 1.3)]}
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.encode())


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text for element in root.iter(f"{SVG}text")]


def series(root: ElementTree.Element, name: str) -> ElementTree.Element:
    return next(element for element in root.iter() if element.get("data-series") == name)


def places(element: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """Pixels of the points of each drawn piece."""
    curves = [path.get("d") for path in element.iter(f"{SVG}path")]
    return [[tuple(map(float, pair.split())) for pair in curve[1:].split("L")] for curve in curves]


def best(element: ElementTree.Element) -> tuple[float, float]:
    (ring,) = [c for c in element.iter(f"{SVG}circle") if "gnn-best" in c.get("class")]
    return float(ring.get("cx")), float(ring.get("cy"))


def test_points_are_drawn_to_scale():
    root = parse(line_chart(LOSS, "Loss", "epoch", "nats"))
    ((a, b, c),) = places(series(root, "training"))
    ((d, e, f),) = places(series(root, "validation"))
    assert a[0] == d[0] < b[0] == e[0] < c[0] == f[0]
    assert b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.2)
    assert b[1] - a[1] == pytest.approx(2 * (c[1] - b[1]), abs=0.2)
    assert d[1] < a[1]  # up is more
    heights = sorted([(2.0, a[1]), (1.0, b[1]), (0.5, c[1]), (2.1, d[1]), (0.9, e[1]), (1.3, f[1])])
    assert [y for _, y in heights] == sorted((y for _, y in heights), reverse=True)


def test_the_same_ratio_is_the_same_distance_on_a_logarithmic_axis():
    root = parse(line_chart(LOSS, "Loss", "epoch", "nats", log=True))
    ((a, b, c),) = places(series(root, "training"))
    assert b[1] - a[1] == pytest.approx(c[1] - b[1], abs=0.2)


@pytest.mark.parametrize(("which", "x", "value"), [("min", 2, "0.9"), ("max", 1, "2.1")])
def test_the_best_point_is_marked_and_told(which, x, value):
    root = parse(line_chart(LOSS, "Loss", "epoch", "nats", best=which))
    group = series(root, "validation")
    assert best(group) == places(group)[0][x - 1]
    assert f"best {value} at {x}" in texts(root)
    assert f"validation: last 1.3 at 3, best {value} at {x}" in root[1].text


def test_no_point_is_marked_if_none_is_best():
    root = parse(line_chart(LOSS, "Loss", "epoch", "nats", best=None))
    assert not [element for element in root.iter() if "gnn-best" in element.get("class", "")]
    with pytest.raises(OptionError, match="'min', 'max' or None"):
        line_chart(LOSS, "Loss", "epoch", "nats", best="smallest")


def test_curves_are_named_beside_their_ends_and_told_apart_without_colour():
    svg = line_chart(LOSS, "Loss", "epoch", "nats")
    assert {"Loss", "epoch", "nats", "training", "validation", "training 0.5", "validation 1.3"} <= set(
        texts(parse(svg))
    )
    style = next(parse(svg).iter(f"{SVG}style")).text
    dashes = [rule for rule in re.findall(r"\.gnn-curve\.gnn-series-\d\{([^}]*)\}", style)]
    assert len(dashes) == len(set(dashes)) == 2


def test_labels_of_equal_curves_do_not_overlap():
    same = [(0, 1.0), (1, 1.0)]
    root = parse(line_chart({name: same for name in "abcdef"}, "t", "x", "y"))
    heights = sorted(float(t.get("y")) for t in root.iter(f"{SVG}text") if re.fullmatch("[a-f] 1", t.text))
    assert len(heights) == 6
    assert all(second - first >= 14.9 for first, second in itertools.pairwise(heights))


def test_labels_stay_beside_the_plot():
    for ends in ([(0, 0.0), (1, 1.0)], [(0, 1.0), (1, 0.0)]):
        root = parse(line_chart({name: ends for name in "abcdef"}, "t", "x", "y"))
        heights = [float(t.get("y")) for t in root.iter(f"{SVG}text") if re.match("[a-f] [01]", t.text)]
        top, low = sorted(y for piece in places(series(root, "a")) for _, y in piece)
        assert top <= min(heights) <= max(heights) <= low + 4


def test_what_is_not_finite_leaves_a_gap_and_is_counted():
    points = [(1, 1.0), (2, 2.0), (3, math.nan), (4, 1.0), (5, math.inf), (6, -math.inf), (7, 1.0)]
    root = parse(line_chart({"a": points}, "t", "x", "y"))
    group = series(root, "a")
    assert [len(piece) for piece in places(group)] == [2]
    assert len([c for c in group.iter(f"{SVG}circle") if "gnn-dot" in c.get("class")]) == 2  # lonely points
    assert any(text.startswith("3 points cannot be drawn") for text in texts(root))
    (crosses,) = [path for path in root.iter(f"{SVG}path") if "gnn-cross" in path.get("class")]
    assert crosses.get("d").count("M") == 3


def test_what_is_not_positive_cannot_be_drawn_on_a_logarithmic_axis():
    root = parse(line_chart({"a": [(1, 1.0), (2, 0.0), (3, -1.0), (4, 2.0)]}, "t", "x", "y", log=True))
    assert any(text.startswith("2 points cannot be drawn") for text in texts(root))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("points", [[], [(3, math.nan)], [(3, 0.5)], [(1, 0.25), (9, 0.25)], [(0, 1e300), (1, 1e-300)]])
def test_poor_data_give_a_readable_chart(points, log):
    root = parse(line_chart({'a <&">': points}, 'a "title" & more', "x", "y", log=log))
    drawable = [y for _, y in points if math.isfinite(y)]
    assert ("no points to draw" in texts(root)) == (not drawable)
    if drawable:
        assert best(series(root, 'a <&">'))[0] > 0


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8), st.booleans())
def test_everything_drawn_lies_in_the_frame(points, log):
    root = parse(line_chart({"a": points}, "t", "x", "y", log=log))
    _, _, width, height = map(float, root.get("viewBox").split())
    for group in root.iter():
        if group.get("data-series"):
            for x, y in (place for piece in places(group) for place in piece):
                assert 70 <= x <= width
                assert 90 <= y <= height - 50


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.booleans())
def test_ticks_are_few_even_and_told_apart(low, high, log):
    if log:
        low, high = abs(low) + 1e-290, abs(high) + 1e-290
    scale = scale_of([low, high], 300, 0, log)
    assert 2 <= len(scale.ticks) <= 10
    assert len({text for _, text in scale.ticks}) == len(scale.ticks)
    pixels = [scale(tick) for tick, _ in scale.ticks]
    assert pixels == sorted(pixels, reverse=True)
    assert -0.01 <= min(pixels) <= max(pixels) <= 300.01
    assert 0 <= scale(low) <= 300
    assert 0 <= scale(high) <= 300


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [
        ([0.0, 1.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([-1.0, 1.0], ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ([0, 12_000], ["0", "2,000", "4,000", "6,000", "8,000", "10,000", "12,000"]),
        ([0.0, 3e-7], ["0", "5e-08", "1e-07", "1.5e-07", "2e-07", "2.5e-07", "3e-07"]),
    ],
)
def test_ticks_are_round_numbers(numbers, texts):
    assert [text for _, text in scale_of(numbers, 0, 100, False).ticks] == texts


def test_long_histories_keep_their_shape_in_few_points():
    y = np.random.default_rng(0).normal(size=100_000)
    y[[777, 5555]] = [50, -50]
    points = [(float(index) / 200, float(value)) for index, value in enumerate(y)]
    kept = decimate(points)
    assert len(kept) <= 4 * 501
    assert kept == sorted(kept)
    assert {points[0], points[-1], points[777], points[5555]} <= set(kept)
    assert len(line_chart({"a": points}, "t", "x", "y")) < 60_000


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_ticks_of_epochs_are_integers(first, more):
    scale = scale_of([first, first + more], 0, 100, False, tight=True, whole=True)
    assert scale.ticks
    assert all(text.replace(",", "").isdecimal() and first <= tick <= first + more for tick, text in scale.ticks)
    assert len(scale.ticks) <= 10


def test_the_axis_of_a_short_history_counts_epochs():
    history = History()
    for epoch in (1, 2, 3):
        history.append({"epoch": epoch, "loss": 1 / epoch})
    root = parse(history.to_svg())
    middle = [element.text for element in root.iter(f"{SVG}text") if element.get("text-anchor") == "middle"]
    assert [text for text in middle if text != "epoch" and text != "loss"] == ["1", "2", "3"]


@pytest.mark.parametrize(("theme", "other"), [("light", "dark"), ("dark", "light")])
def test_a_chart_may_have_one_theme_alone(theme, other, tmp_path):
    history = History()
    history.append({"epoch": 1, "loss": 0.5})
    history.plot(tmp_path / "loss.svg", theme=theme)
    svg = (tmp_path / "loss.svg").read_text(encoding="utf-8")
    assert getattr(SERIES[0], theme) in svg
    assert getattr(SERIES[0], other) not in svg
    with pytest.raises(OptionError, match="auto, light, dark"):
        history.to_svg(theme="pink")
