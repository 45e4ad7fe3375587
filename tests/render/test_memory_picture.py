"""The memory picture holds every buffer, marks the plan's own peak, and stays within its frame."""

import re
import time
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given

import graphnn as gnn
from graphnn import layers, losses
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.plan.lifetimes import live_bytes, regions, spans
from graphnn.plan.memory import make_plan
from graphnn.plans import plans_of
from graphnn.render.memory import STYLES, memory_svg
from graphnn.render.units import bytes_text
from module_cases import SMALL, module_programs
from random_programs import programs

SVG = "{http://www.w3.org/2000/svg}"
MARKUP = '"><script>alert(1)</script> & \x00 \ud800'


def parse(svg):
    return ElementTree.fromstring(svg.encode())


def texts(root):
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def counted(root):
    return sum(int(group.get("data-count")) for group in root.iter(f"{SVG}g") if group.get("data-count"))


def drawn(plan):
    return sum(plan.buffers[span.buffer].spec.nbytes > 0 for region in regions(plan) for span in spans(region, plan))


def chain(length):
    x = gnn.Input(("batch", 8), name="x")
    h = x
    for index in range(length):
        h = layers.Tanh(name=f"tanh_{index}")(layers.Linear(8, name=f"linear_{index}")(h))
    return gnn.Trainer(gnn.Model(gnn.Graph(x, h, name="chain"), device="reference"), losses.SquaredError(), "adam")


def step_of(length):
    return plans_of(chain(length), np.zeros((4, 8)), np.zeros((4, 8)))["step"]


@given(programs())
def test_every_value_is_drawn_once_and_inside(program):
    plan = make_plan(program)
    root = parse(memory_svg(plan))
    assert counted(root) == drawn(plan)
    _, _, width, height = map(float, root.get("viewBox").split())
    for rectangle in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rectangle.get(name, 0)) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width + 0.2
        assert 0 <= y <= y + h <= height + 0.2
    if regions(plan):
        live = live_bytes(plan)
        peak = live.index(max(live))
        assert any(
            re.match(rf"peak {re.escape(bytes_text(plan.peak_bytes))} at steps? {peak}\b", t) for t in texts(root)
        )
    else:
        assert "nothing lies in the arena" in texts(root)


@pytest.mark.parametrize("length", [3, 110])
def test_thousands_of_values_are_drawn_in_a_moment_and_tiny_ones_together(length):
    plan = step_of(length)
    assert len(plan.buffers) > 15 * length
    start = time.perf_counter()
    svg = memory_svg(plan, "chain")
    assert time.perf_counter() - start < 3
    root = parse(svg)
    assert counted(root) == drawn(plan)
    merged = sum(n for n in (int(g.get("data-count", 0)) for g in root.iter(f"{SVG}g")) if n > 1)
    said = re.search(r"([\d,]+) rectangles are too small", svg)
    assert merged == (int(said[1].replace(",", "")) if said else 0)
    assert (length < 10) or merged
    assert len(svg) < 1_000_000


def test_the_legend_has_what_is_drawn():
    for program in [program for _, program in module_programs(SMALL)]:
        root = parse(memory_svg(make_plan(program)))
        drawn_styles = {
            rectangle.get("class").split()[0].removeprefix("gnn-")
            for group in root.iter(f"{SVG}g") if group.get("data-count") for rectangle in group.iter(f"{SVG}rect")
        }  # fmt: skip
        assert {group.get("data-entry") for group in root.iter(f"{SVG}g")} - {None} == drawn_styles <= set(STYLES)


def test_a_tooltip_says_where_a_value_lies():
    builder = ProgramBuilder()
    x = builder.input("x", TensorSpec((16, 16)))
    h = gnn.ops.Op.registry["tanh"]()
    (first,) = builder.emit(h, [x])
    (second,) = builder.emit(h, [first])
    (third,) = builder.emit(h, [second])
    svg = memory_svg(make_plan(builder.build([third])))
    assert "step 0: tanh, buffer 1: float32[16, 16]\n1,024 bytes at offset 0\nstep 0" in svg
    assert (
        "step 1: tanh (written over an input), buffer 2: float32[16, 16]\n1,024 bytes at offset 0\nsteps 1 to 2" in svg
    )


def test_any_title_is_harmless():
    root = parse(memory_svg(step_of(1), MARKUP))
    assert not list(root.iter(f"{SVG}script"))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby").split() == [root[0].get("id"), root[1].get("id")]


def test_sizes_are_written_in_the_unit_that_fits():
    assert [bytes_text(n) for n in (0, 64, 1536, 2**20, 3 * 2**40)] == ["0 B", "64 B", "1.5 KiB", "1 MiB", "3 TiB"]
