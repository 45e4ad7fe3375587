"""The same input gives the same bytes in every process, whatever the hash seed: files, texts, plans, numbers."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

PROGRAM = """
import hashlib, sys
import numpy as np
from graphnn import layers
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.ir.text import to_text
from graphnn.model import Model
from graphnn.passes.pipeline import run_passes
from graphnn.plan.memory import make_plan
from module_cases import REALISTIC, SMALL, flat_outputs, net, seeds_of, training_program

def show(what, data):
    data = data if isinstance(data, bytes) else str(data).encode()
    print(what, hashlib.sha256(data).hexdigest(), len(data))

def show_model(name, graph, inputs):
    model = Model(graph, seed=3)
    model.freeze("*/b")
    outputs = flat_outputs(model.forward(**inputs, training=True, retain=True))
    gradients = model.backward(*seeds_of(outputs))
    show(name + " outputs", b"".join(y.tobytes() for y in outputs))
    show(name + " values", repr([(path, v.tobytes()) for path, v in model.derived_variables.items()]))
    show(name + " gradients", repr([(path, g.tobytes()) for path, g in model.gradients.items()]))
    show(name + " input gradients", repr(gradients))
    show(name + " json", graph.to_json())
    show(name + " summary", str(model.summary()) + repr(model.summary().to_dict()))
    model.save_weights(sys.argv[1])
    show(name + " weights", open(sys.argv[1], "rb").read())

def show_plan(name, program):
    program = run_passes(program)
    plan = make_plan(program)
    steps = [(str(step.op), step.inputs, step.outputs, step.origin) for step in plan.steps]
    places = [(buffer.offset, buffer.first_step, buffer.last_step, buffer.shares) for buffer in plan.buffers]
    show(name + " program", to_text(program))
    show(name + " plan", repr([steps, places, plan.updates, plan.outputs, plan.arena_bytes]))

for case in SMALL:
    show_model(str(case), case.graph, case.arrays())
    show_plan(str(case), training_program(case))
for case in REALISTIC:
    show_plan("large " + str(case), training_program(case))
rows = np.random.default_rng(0).normal(size=(4, 3))
show_model("net", net(), {"x": rows})
print(1)
"""


def test_nothing_depends_on_the_hash_seed(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / f"{seed}.npz")],
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in ("0", "1", "2")
    ]  # fmt: skip
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results[0][1]
    texts = [text.splitlines() for text, _ in results]
    assert len(texts[0]) > 60
    assert texts[0] == texts[1] == texts[2]
