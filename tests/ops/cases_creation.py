"""Cases of fill, iota and cast."""

from __future__ import annotations

import numpy as np

from graphnn.ops.creation import Cast, Fill, Iota, StopGradient
from ops.case import Case, bools, exactly, integers, normal

CASES = [
    Case(Fill(0.5, (2, 3), "float64"), [], lambda: [[0.5] * 3] * 2),
    Case(Fill(7, (), "int32"), [], lambda: 7, label="scalar"),
    Case(Fill(True, (2,), "bool"), [], lambda: [True, True], label="bool"),
    Case(Fill(1.0, (0, 3)), [], lambda: np.empty((0, 3)), label="empty"),
    Case(Iota((2, 3), 1), [], lambda: [[0, 1, 2]] * 2),
    Case(Iota((3, 2), 0, "float32"), [], lambda: [[0, 0], [1, 1], [2, 2]], label="float"),
    Case(Cast("float64"), [normal(2, 3)], lambda x: x),
    Case(Cast("float32"), [normal(2, 3)], lambda x: x, gradient=False, label="float32"),
    Case(Cast("float16"), [normal(2, 3)], lambda x: x, gradient=False, label="float16"),
    Case(Cast("int64"), [exactly([-2.7, -0.5, 0.0, 0.5, 2.7])], lambda x: [-2, 0, 0, 0, 2], label="cut"),
    Case(Cast("bool"), [exactly([-0.5, 0.0, 3.0])], lambda x: [True, False, True], label="bool"),
    Case(Cast("float64"), [integers(5, low=-5)], lambda x: x, label="from_integers"),
    Case(StopGradient(), [normal(2, 3)], lambda x: x, gradient=False),
    Case(Cast("float32"), [bools(5)], lambda x: x, label="from_bool"),
]
