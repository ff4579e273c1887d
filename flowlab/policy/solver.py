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


ONE_STEP = {"euler": _euler, "midpoint": _midpoint, "heun": _heun}
SOLVERS = (*ONE_STEP, "ab2")


def solve(velocity: Velocity, x0: Tensor, solver: str, num_steps: int) -> Tensor:
    """x at t = 1 after `num_steps` equal steps from x0 at t = 0. Error order: euler 1; midpoint, heun and ab2 2.

    The velocity is asked for once a step by euler, twice by midpoint and heun, num_steps + 1 times in all by ab2.
    """
    if solver == "ab2":
        return _adams_bashforth(velocity, x0, num_steps)
    step = ONE_STEP[solver]
    x = x0
    for index in range(num_steps):
        x = step(velocity, x, index / num_steps, 1.0 / num_steps)
    return x


def _adams_bashforth(velocity: Velocity, x0: Tensor, num_steps: int) -> Tensor:
    """A step follows the straight line through the velocities at its beginning and at that of the step before.

    The first step has none before it: it is heun's.
    """
    dt = 1.0 / num_steps
    before = velocity(x0, 0.0)
    x = x0 + (0.5 * dt) * (before + velocity(x0 + dt * before, dt))
    for index in range(1, num_steps):
        v = velocity(x, index / num_steps)
        x = x + (1.5 * dt) * v - (0.5 * dt) * before
        before = v
    return x
