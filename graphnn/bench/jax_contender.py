"""A training step in jax: one jitted function with donated buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphnn.bench.jax_twins import TWINS, Array, Parameters, States
from graphnn.bench.workload import LEARNING_RATE, Arrays, Workload, make_inputs, make_targets

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # those of every other contender: the defaults of their libraries


class JaxContender:
    """One step: loss, gradients and Adam in one `jax.jit`, which may overwrite the parameters and moments given to it.

    Args:
        workload: what to train on.
        arrays: the initial parameters by path.
        states: the initial running statistics by path.
    """

    def __init__(self, workload: Workload, arrays: Arrays, states: Arrays):
        import jax

        self._step = jax.jit(_step(workload), donate_argnums=0)
        self._inputs, self._targets = _device(make_inputs(workload)), _device(make_targets(workload))
        zeros = {path: np.zeros_like(array) for path, array in arrays.items()}
        memory = {"m": zeros, "v": zeros, "parameters": dict(arrays)}
        self._carried: Any = {name: _device(group) for name, group in memory.items()}
        self._carried |= {"states": _device(states), "steps": jax.numpy.zeros((), "float32")}

    def step(self) -> float:
        """The loss before the update."""
        self._carried, loss = self._step(self._carried, self._inputs, self._targets)
        return float(loss)


def _device(arrays: Mapping[str, np.ndarray]) -> dict[str, Array]:
    from jax import numpy as jnp

    return {name: jnp.array(array) for name, array in arrays.items()}


def _step(workload: Workload) -> Callable[..., Any]:
    """(carried, inputs, targets) -> (carried, loss)."""
    import jax

    twin, of_output = TWINS[workload.name], _loss(workload.loss)

    def objective(parameters: Parameters, states: States, inputs: Any, targets: Any) -> tuple[Array, States]:
        states = dict(states)
        outputs = twin(parameters, inputs, states)
        named = outputs if isinstance(outputs, dict) else {"": outputs}
        return sum(of_output(y, targets[name]) for name, y in named.items()), states

    def run(carried: Any, inputs: Any, targets: Any) -> tuple[Any, Array]:
        gradient = jax.value_and_grad(objective, has_aux=True)
        (loss, states), gradients = gradient(carried["parameters"], carried["states"], inputs, targets)
        return {**_adam(carried, gradients), "states": states}, loss

    return run


def _adam(carried: Any, gradients: Mapping[str, Array]) -> dict[str, Any]:
    """Kingma and Ba 2015, algorithm 1."""
    from jax import numpy as jnp

    steps = carried["steps"] + 1.0
    m = {path: BETA1 * carried["m"][path] + (1.0 - BETA1) * g for path, g in gradients.items()}
    v = {path: BETA2 * carried["v"][path] + (1.0 - BETA2) * g * g for path, g in gradients.items()}
    rate, root = LEARNING_RATE / (1.0 - BETA1**steps), jnp.sqrt(1.0 - BETA2**steps)
    new = {path: p - rate * m[path] / (jnp.sqrt(v[path]) / root + EPSILON) for path, p in carried["parameters"].items()}
    return {"parameters": new, "m": m, "v": v, "steps": steps}


def _loss(name: str) -> Callable[[Array, Array], Array]:
    import jax
    from jax import numpy as jnp

    def squared_error(y: Array, target: Array) -> Array:
        return jnp.mean((y - target) ** 2)

    def cross_entropy(y: Array, target: Array) -> Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(y), target[..., None], -1).mean()

    return {"squared_error": squared_error, "cross_entropy": cross_entropy}[name]
