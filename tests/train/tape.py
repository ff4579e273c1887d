"""A stand-in for a CUDA graph on a CPU: which operations a function did, to do them again at the same places."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Within it every operation is done and noted: with which tensors and which numbers of Python's."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.noted.append((operation, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        """Do it all again. What an operation makes is put where it lay, as a graph's kernels do it."""
        with torch.no_grad():
            for operation, args, kwargs, before in self.noted:
                for place, value in zip(tree_leaves(before), tree_leaves(operation(*args, **kwargs)), strict=True):
                    if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():
                        place.copy_(value)


def tape_of(state: list[Tensor]) -> Callable:
    """Records as `recorded.cuda_graph` does, for a program that changes `state`: it is left as it was."""

    def record(program: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], Callable[[], object]]:
        before = [one.detach().clone() for one in state]
        with Tape() as noted:
            report = program()
        with torch.no_grad():
            torch._foreach_copy_(state, before)
        return report, noted.replay

    return record
