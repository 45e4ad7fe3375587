"""Drawn programs hold every op and every dependency, open or closed; drawn plans every step."""

from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given

import graphnn as gnn
from graphnn import layers, losses
from graphnn.ir.program import Origin, Phase
from graphnn.ir.text import name_values
from graphnn.ops.creation import Fill
from graphnn.ops.op import Op
from graphnn.plan.memory import make_plan
from graphnn.plans import plans_of, programs_of
from graphnn.render import program_drawing
from graphnn.render.palette import CATEGORIES
from graphnn.render.plan_drawing import HEADER, MOST_ROWS, plan_rows, plan_svg, plan_text
from graphnn.render.program_drawing import family_of, program_scene, program_svg
from module_cases import SMALL, module_programs
from random_programs import programs

SVG = "{http://www.w3.org/2000/svg}"
MARKUP = '"><script>alert(1)</script> & \x00 \ud800'


def scattered(program):
    """The same program, its ops given to three nodes by turns."""
    origins = [
        Origin(path, phase) for path, phase in (("a", Phase.FORWARD), ("b/c", Phase.FORWARD), ("a", Phase.BACKWARD))
    ]
    instructions = tuple(
        replace(instruction, origin=origins[index % 3]) for index, instruction in enumerate(program.instructions)
    )
    return replace(program, instructions=instructions)


def reaches(scene):
    """(source, target) of all drawn connections, with labels from afar followed to where they come from."""
    boxes = {box.key: box for box in scene.boxes}
    return {(source, edge.target) for edge in scene.edges for source in boxes[edge.source].stands_for or (edge.source,)}


def dependencies(program):
    """(box of the reader's input, box of the reader), by the numbers of the program's text; constants have no box."""
    names = name_values(program)
    key = {value: f"%{names[i.outputs[0]]}" for i in program.instructions for value in i.outputs}
    key |= {value: f"%{names[value]}" for value in program.inputs}
    constants = {
        i.outputs[0] for i in program.instructions
        if isinstance(i.op, Fill) and not i.outputs[0].spec.shape and i.outputs[0] not in program.results
    }  # fmt: skip
    return {
        (key[value], key[i.outputs[0]])
        for i in program.instructions for value in i.inputs if value not in constants and not constants & set(i.outputs)
    }  # fmt: skip


@given(programs())
def test_open_programs_show_every_dependency(program):
    program = scattered(program)
    scene = program_scene(program)
    ops = {box.key for box in scene.boxes if box.role == "layer"}
    assert {edge for edge in reaches(scene) if edge[1] in ops} == dependencies(program)
    assert_in_order(scene)


@given(programs())
def test_closed_programs_count_every_op_and_stay_acyclic(program):
    program = scattered(program)
    limit, program_drawing.AUTOMATIC_OPS = program_drawing.AUTOMATIC_OPS, 0
    try:
        scene = program_scene(program)
    finally:
        program_drawing.AUTOMATIC_OPS = limit
    listed = sum(len(box.tooltip) - 1 for box in scene.boxes if box.role == "module")
    hidden = sum(isinstance(i.op, Fill) and not i.outputs[0].spec.shape for i in program.instructions)
    assert len(program.instructions) - hidden <= listed <= len(program.instructions)
    assert_in_order(scene)


def assert_in_order(scene):
    place = {box.key: index for index, box in enumerate(scene.boxes)}
    assert len(place) == len(scene.boxes)
    assert all(place[edge.source] < place[edge.target] for edge in scene.edges)
    held = Counter(box.group for box in scene.boxes if box.group)
    assert set(held) == {group.path for group in scene.groups}


def test_modules_are_drawn_by_node_and_phase():
    for _, program in module_programs(SMALL):
        scene = program_scene(program)
        root = ElementTree.fromstring(program_svg(program).encode())
        groups = [element for element in root.iter(f"{SVG}g") if element.get("class") == "gnn-group"]
        assert len(groups) == len(scene.groups)
        origins = {f"{i.origin.phase.value}:{i.origin.path or 'no node'}" for i in program.instructions}
        assert {group.path for group in scene.groups} <= origins | {"update:" + path for path in _owners(origins)}


def _owners(origins):
    return {origin.partition(":")[2].rpartition("/")[0] for origin in origins}


def test_one_node_of_many_is_opened_beside_its_neighbours():
    x = gnn.Input(("batch", 4), name="x")
    h = x
    for index in range(40):
        h = layers.Linear(4, act_fn="tanh", name=f"linear_{index}")(h)
    trainer = gnn.Trainer(gnn.Model(gnn.Graph(x, h)), losses.SquaredError(), "sgd")
    program = programs_of(trainer, np.zeros((2, 4)), np.zeros((2, 4)))["step"]
    closed = program_scene(program)
    assert not any(box.role == "layer" for box in closed.boxes)
    assert "expand" in closed.notices[0]
    near = program_scene(program, expand="linear_7")
    inside = [
        i for i in program.instructions if i.origin.path.startswith("linear_7") and not i.origin.path[8:9].isdigit()
    ]
    assert sum(box.role == "layer" for box in near.boxes) == sum(bool(i.outputs[0].spec.shape) for i in inside)
    assert [group.title.split(" · ")[:2] for group in near.groups] == [
        ["linear_7", phase] for phase in ("forward", "backward", "update")
    ]
    assert {box.title for box in near.boxes if box.role == "module"} >= {"linear_6", "linear_8"}
    assert not any(box.title == "linear_20" for box in near.boxes)
    with pytest.raises(gnn.OptionError, match=r"no node of the program matches[\s\S]*linear_0"):
        program_scene(program, expand="conv*")


def test_every_family_of_ops_has_a_colour():
    families = {family_of(object.__new__(kind)) for kind in Op.registry.values()}
    assert families == {"fused", "product", "elementwise", "reduction", "movement", "constant", "loop", "other"}
    assert families <= set(CATEGORIES)


def test_drawn_programs_are_the_same_bytes_and_harmless():
    (_, program), *_ = module_programs(SMALL)
    assert program_svg(program, MARKUP) == program_svg(program, MARKUP)
    for svg in (program_svg(program, MARKUP), plan_svg(make_plan(program), MARKUP)):
        assert not list(ElementTree.fromstring(svg.encode()).iter(f"{SVG}script"))


# -- plans -------------------------------------------------------------------------------------------------------------


@given(programs())
def test_plans_list_every_output_of_every_step(program):
    plan = make_plan(program)
    rows = plan_rows(plan)
    assert [row.step for row in rows] == [number for number, step in enumerate(plan.steps) for _ in step.outputs]
    outputs = [number for step in plan.steps for number in step.outputs]
    for row, number in zip(rows, outputs, strict=True):
        cells, buffer = dict(zip(HEADER, row.cells, strict=True)), plan.buffers[number]
        assert cells["writes"] == f"#{number}: {buffer.spec}"
        place = cells["place in the arena"]
        if buffer.shares is not None:
            source = buffer.shares
            name = plan.inputs[source].name if source < len(plan.inputs) else f"#{source}"
            assert place.endswith((f"over {name}", f"view of {name}"))
        elif number in plan.outputs:
            assert place == "returned"
        else:
            assert place.split(", then")[0] == f"{buffer.offset:,}"
    assert len(plan_text(plan).splitlines()) == len(rows) + 4
    root = ElementTree.fromstring(plan_svg(plan).encode())
    assert len([g for g in root.iter(f"{SVG}g") if g.get("class") == "gnn-row"]) == len(rows)


def test_a_long_plan_is_cut_in_the_middle_and_says_so():
    x = gnn.Input(("batch", 4), name="x")
    h = x
    for index in range(500):
        h = layers.Tanh(name=f"tanh_{index}")(h)
    plan = plans_of(gnn.Model(gnn.Graph(x, h), device="reference"), np.zeros((2, 4)))["forward"]
    svg = plan_svg(plan)
    root = ElementTree.fromstring(svg.encode())
    steps = [int(g.get("data-step")) for g in root.iter(f"{SVG}g") if g.get("class") == "gnn-row"]
    assert steps == [*range(MOST_ROWS // 2), *range(500 - MOST_ROWS // 2, 500)]
    assert "… 100 rows not drawn …" in svg


def test_what_backward_is_given_is_told_in_words():
    x = gnn.Input(("batch", 4), name="residual_x")
    model = gnn.Model(gnn.Graph(x, gnn.layers.Tanh(name="tanh")(x)), device="reference")
    programs = gnn.programs_of(model, np.zeros((2, 4), "float32"))
    (forward, backward) = (program_scene(programs[name]).boxes for name in ("forward", "backward"))
    given = {box.lines[0]: box.lines[1] for box in backward if box.role == "input"}
    assert given == {"residual:0": "kept by the forward run", "cotangent:0": "gradient of an output"}
    assert [box.lines for box in forward if box.role == "input"] == [("residual_x", "(2, 4)")]
