"""Pool1D, Pool2D, GlobalAveragePool, GlobalMaxPool."""

import numpy as np
import pytest

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.layer import Input
from graphnn.layers import Conv2D, GlobalAveragePool, GlobalMaxPool, Pool1D, Pool2D
from peers import compare, graph_of, normal, pool, run


@pytest.mark.peers
@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize("stride", [1, 2, (3, 1), None])
@pytest.mark.parametrize(
    ("window", "pad", "pads"),
    [
        ((2, 2), 0, [(0, 0), (0, 0)]),
        ((3, 2), (1, 1, 0, 1), [(1, 1), (0, 1)]),
        ((3, 4), "same", [(1, 1), (1, 2)]),
        ((3, 3), 2, [(2, 2), (2, 2)]),
    ],
)
def test_pool2d_equals_torch(mode, stride, window, pad, pads):
    """B15: the gradient of a padded maximum."""
    x = normal(2, 7, 6, 3)
    step = window if stride is None else stride
    compare(
        graph_of(Pool2D(window, stride, pad, mode), x), lambda i, p: pool(i["x"], window, step, pads, mode), {"x": x}
    )


@pytest.mark.peers
@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize(("pad", "pads"), [(0, (0, 0)), (1, (1, 1)), ("same", (1, 1)), ("causal", (2, 0))])
@pytest.mark.parametrize("stride", [1, 2, None])
def test_pool1d_equals_torch(mode, pad, pads, stride):
    x = normal(3, 8, 2)
    step = 3 if stride is None else stride
    compare(graph_of(Pool1D(3, stride, pad, mode), x), lambda i, p: pool(i["x"], 3, step, [pads], mode), {"x": x})


@pytest.mark.peers
def test_average_without_the_padding_equals_torch():
    from torch.nn import functional

    x = normal(2, 5, 6, 3)
    graph = graph_of(Pool2D(3, 2, 1, "average", count_padding=False), x)
    twin = lambda i, p: functional.avg_pool2d(i["x"].movedim(-1, 1), 3, 2, 1, count_include_pad=False).movedim(1, -1)  # noqa: E731
    compare(graph, twin, {"x": x})


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 4, 5, 3)])
def test_global_pools_equal_torch(shape):
    x = normal(*shape)
    axes = tuple(range(1, x.ndim - 1))
    compare(graph_of(GlobalAveragePool(), x), lambda i, p: i["x"].mean(axes), {"x": x})
    compare(graph_of(GlobalMaxPool(), x), lambda i, p: i["x"].amax(axes), {"x": x})


def test_negative_numbers_win_over_the_padding():
    """Padding is no 0 in a maximum."""
    x = -1.0 - np.abs(normal(1, 4, 4, 2))
    y = run(graph_of(Pool2D(2, 2, 1), x), {"x": x}, {}).outputs["y"]
    assert y.max() < -1.0
    assert np.isfinite(y).all()


@pytest.mark.parametrize("mode", ["max", "average"])
def test_float32_stays_float32(mode):
    x = normal(2, 5, 5, 2, dtype="float32")
    outcome = run(graph_of(Pool2D(2, 2, "same", mode, count_padding=False), x), {"x": x}, {}, dtype="float32")
    assert {str(a.dtype) for a in (*outcome.outputs.values(), *outcome.gradients.values())} == {"float32"}


def test_pooling_moves_as_the_convolution_of_its_window():
    x = Input(("batch", "rows", "cols", 3))
    for pad in (0, 1, "same"):
        for stride in (1, 2, 3):
            pooled = Pool2D((3, 2), stride, pad)(x) if pad != 1 else Pool2D(3, stride, pad)(x)
            assert pooled.shape == Conv2D(3, (3, 2) if pad != 1 else 3, pad, stride)(x).shape


@pytest.mark.parametrize(
    ("layer", "shape", "error", "text"),
    [
        (Pool2D(2, mode="mean"), (2, 4, 4, 1), OptionError, '"max" or "average"'),
        (Pool2D(2), (2, 4, 4), ShapeError, r"\(batch, rows, cols, ch\)"),
        (Pool2D(0), (2, 4, 4, 1), OptionError, "`kernel_shape` does not fit"),
        (Pool2D(2, 0), (2, 4, 4, 1), OptionError, "`stride` does not fit"),
        (Pool2D(2, 1, 2), (2, 4, 4, 1), OptionError, "in the padding alone"),
        (Pool2D(5), (2, 4, 4, 1), ShapeError, "larger than the padded input"),
        (Pool1D(2, pad="full"), (2, 4, 1), OptionError, "`pad` does not fit"),
        (GlobalAveragePool(), (2, 4), ShapeError, "nothing to pool over"),
        (GlobalMaxPool(), (2, 4), ShapeError, "nothing to pool over"),
    ],
)
def test_misfits_are_refused_at_declaration(layer, shape, error, text):
    with pytest.raises(error, match=text) as caught:
        layer(Input(shape, name="x"))
    assert layer.default_name in caught.value.where
