"""FLOPs and bytes: by hand for a small network, by PyTorch's own counter for products and convolutions."""

import importlib
import pkgutil

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.fused import Fused
from graphnn.ops.op import Op, Tensor, emit
from graphnn.ops.opaque import Opaque, OpaqueGradient
from graphnn.ops.shape import Slice
from graphnn.plan.cost import FLOPS, Cost, cost_of, cost_of_step, count_of, unknown
from graphnn.plans import plans_of
from graphnn.scan import Scan, scan
from graphnn.tiled import Tiled


def test_every_op_has_a_rule():
    for module in pkgutil.walk_packages(gnn.__path__, "graphnn."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = [kind for kind in Op.registry.values() if kind.__module__.startswith("graphnn.")]
    missing = [
        kind.name for kind in kinds if kind not in (Scan, Tiled) and not any(base in FLOPS for base in kind.__mro__)
    ]
    assert len(kinds) > 60
    assert not missing, f"give them an entry in FLOPS of graphnn/plan/cost.py: {missing}"
    assert [kind for kind in FLOPS if FLOPS[kind] is unknown] == [Opaque, OpaqueGradient]
    assert count_of(int) is unknown


def costs_of(plan):
    return [(step.op.name, cost_of_step(plan, step)) for step in plan.steps]


def test_a_dense_layer_counted_by_hand():
    x = gnn.Input(("batch", 4), name="x")
    model = gnn.Model(gnn.Graph(x, layers.Linear(3, act_fn="tanh", name="dense")(x)), device="reference")
    plans = plans_of(model, np.zeros((2, 4)))
    assert costs_of(plans["forward"]) == [
        ("matmul", Cost(2 * 2 * 4 * 3, 32 + 48, 24)),  # 2x4 @ 4x3
        ("add", Cost(6, 24 + 12, 24)),
        ("tanh", Cost(6, 24, 24)),
    ]
    total = {}
    for name, cost in costs_of(plans["backward"]):
        total[name] = total.get(name, 0) + cost.flops
    assert total["matmul"] == 2 * (2 * 3 * 4) + 2 * (4 * 2 * 3)  # dx = dy @ W^T, dW = x^T @ dy
    assert total["sum"] == 6
    assert total["transpose"] == 0


def test_a_view_is_free_unless_it_is_returned():
    x = gnn.Input((2, 3), name="x")
    returned = plans_of(
        gnn.Model(gnn.Graph(x, layers.Reshape((6,), name="flat")(layers.ReLU()(x))), device="reference"),
        np.ones((2, 3)),
    )
    assert [cost for name, cost in costs_of(returned["forward"]) if name == "reshape"] == [Cost(0, 24, 24)]
    read = layers.Tanh()(layers.Reshape((6,), name="flat")(layers.ReLU()(x)))
    plan = plans_of(gnn.Model(gnn.Graph(x, read), device="reference"), np.ones((2, 3)))["forward"]
    assert [cost for name, cost in costs_of(plan) if name == "reshape"] == [Cost(0, 0, 0)]


@pytest.mark.parametrize("length", [1, 7])
def test_a_loop_costs_its_body_times_its_length(length):
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((length, 2, 5))))
    h, w = (Tensor(builder, builder.input(name, TensorSpec(shape))) for name, shape in (("h", (2, 5)), ("w", (5, 5))))
    scan(lambda carries, slices, constants: ([carries[0] @ constants[0] + slices[0]], []), [h], [x], [w])
    (loop,) = builder.instructions
    cost = cost_of(loop.op, [value.spec for value in loop.inputs], [value.spec for value in loop.outputs])
    one = 4 * 2 * 5  # bytes of the state
    assert cost == Cost(length * (2 * 2 * 5 * 5 + 10), length * (one + 100 + one + one), length * (one + one))


def convolutions_in(graph):
    plans = plans_of(gnn.Model(graph, device="reference"), np.zeros((2, 9, 8, 4)))
    return [cost.flops for plan in plans.values() for name, cost in costs_of(plan) if name.startswith("convolution")]


@pytest.mark.peers
@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 0), (2, 1, 1), (1, 2, 2)])
def test_convolutions_cost_what_pytorch_counts(stride, dilation, padding):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    x = gnn.Input(("batch", 9, 8, 4), name="x")
    conv = layers.Conv2D(6, kernel_shape=(3, 2), stride=stride, dilation=dilation, pad=padding, name="conv")
    ours = convolutions_in(gnn.Graph(x, conv(x)))
    twin = torch.nn.Conv2d(4, 6, (3, 2), stride, padding, dilation)
    with FlopCounterMode(display=False) as counter:
        twin(torch.zeros(2, 4, 9, 8, requires_grad=True)).sum().backward()
    assert len(ours) == 3
    assert sum(ours) == counter.get_total_flops()


def test_groups_divide_the_cost_of_all_three_convolutions():
    x = gnn.Input(("batch", 9, 8, 4), name="x")
    conv = layers.Conv2D(6, kernel_shape=(3, 2), groups=2, name="conv")
    assert convolutions_in(gnn.Graph(x, conv(x))) == [2 * (2 * 7 * 7 * 6) * (3 * 2 * 4 // 2)] * 3


def test_a_group_reads_of_an_input_what_its_slices_are():
    builder = ProgramBuilder()
    x, w = (Tensor(builder, builder.input(name, TensorSpec(shape))) for name, shape in (("x", (8, 6)), ("w", (8, 4))))
    (part,) = emit(Slice((0, 0), (8, 3), (1, 1)), [x])
    y = part.transpose((1, 0)) @ w
    assert bytes_read(builder.build([y.value])) == 4 * (8 * 3 + 8 * 4)
    assert bytes_read(builder.build([y.value, (x + 1.0).value])) == 4 * (8 * 6 + 8 * 4)


def bytes_read(body: Program) -> int:
    return cost_of(Fused(body), *([value.spec for value in side] for side in (body.inputs, body.outputs))).bytes_read
