"""The straight path from noise (t = 0) to action (t = 1): Lipman et al., ICLR 2023; Liu et al., ICLR 2023."""

from torch import Tensor


def point_on_path(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x0 + t x1. `t` has the leading axes of x0 and broadcasts over the rest."""
    t = t.reshape(t.shape + (1,) * (x0.ndim - t.ndim))
    return (1 - t) * x0 + t * x1


def target_velocity(x0: Tensor, x1: Tensor) -> Tensor:
    """dx_t/dt = x1 - x0, the same at every t."""
    return x1 - x0


def implied_action(xt: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The clean action that velocity v at x_t points to: x_t + (1 - t) v."""
    t = t.reshape(t.shape + (1,) * (xt.ndim - t.ndim))
    return xt + (1 - t) * v
