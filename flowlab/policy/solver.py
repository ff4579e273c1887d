"""Fixed-step solvers of dx/dt = v(x, t) from t = 0 to t = 1."""

from collections.abc import Callable

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]


def _euler(velocity: Velocity, x: Tensor, t: float, dt: float) -> Tensor:
    return x + dt * velocity(x, t)


def _midpoint(velocity: Velocity, x: Tensor, t: float, dt: float) -> Tensor:
    half = x + 0.5 * dt * velocity(x, t)
    return x + dt * velocity(half, t + 0.5 * dt)


def _heun(velocity: Velocity, x: Tensor, t: float, dt: float) -> Tensor:
    v = velocity(x, t)
    v_next = velocity(x + dt * v, t + dt)
    return x + (0.5 * dt) * (v + v_next)


SOLVERS = {"euler": _euler, "midpoint": _midpoint, "heun": _heun}


def solve(velocity: Velocity, x0: Tensor, solver: str, num_steps: int) -> Tensor:
    """x at t = 1 after `num_steps` equal steps from x0 at t = 0. Error order: euler 1, midpoint and heun 2."""
    step = SOLVERS[solver]
    x = x0
    for index in range(num_steps):
        x = step(velocity, x, index / num_steps, 1.0 / num_steps)
    return x
