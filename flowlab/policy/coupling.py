"""Minibatch optimal-transport coupling: which noise of a batch travels to which of its actions."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def optimal_pairing(noise: Tensor, action: Tensor) -> Tensor:
    """(B,): for each action (B, H, M) the row of `noise` (B, H, M) that it is paired with, each row once.

    The pairing has the least sum of squared distances of all, found exactly by scipy's assignment solver on the CPU
    (Pooladian et al., 2023; Tong et al., 2024: it straightens the paths). It looks at actions and noise alone: given
    the condition, noise is then no longer independent of it, which biases a conditional policy. Rows that are not
    finite are left to chance.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and few runs need it

    x0, x1 = _rows(noise), _rows(action)
    cost = (x1**2).sum(1)[:, None] - 2 * x1 @ x0.T + (x0**2).sum(1)
    _, pairing = linear_sum_assignment(cost)
    return torch.from_numpy(pairing).to(action.device)


def _rows(x: Tensor) -> NDArray[np.float64]:
    return np.nan_to_num(x.flatten(1).cpu().double().numpy(), nan=0.0, posinf=0.0, neginf=0.0)
