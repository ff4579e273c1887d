"""AdamW as torch.optim computes it, without its class: the first one made in a process imports torch's compiler, which
takes nearly as long as importing torch itself (1.6 s beside 2.0 s of one core,
findings/torch-first-optimizer-imports-the-compiler.sh), and nothing here is compiled.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

EPS = 1e-8


class AdamWGroup:
    """Parameters that share betas and weight decay, with their moments; a parameter without a gradient stays as it is.

    `fused`: one kernel for all of them; None is as torch chooses. Bits are those of torch.optim.AdamW.
    """

    def __init__(
        self, parameters: Sequence[Tensor], betas: tuple[float, float], weight_decay: float, fused: bool | None = None
    ) -> None:
        self.parameters, self.betas, self.weight_decay, self.fused = list(parameters), betas, weight_decay, fused
        self.exp_avg = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device if fused else None) for parameter in self.parameters]

    @torch.no_grad()
    def update(self, lr: float | Tensor) -> None:
        """One step along the gradients that the parameters hold. A tensor () is read where the kernel runs."""
        rows = [
            (parameter, parameter.grad, *moments)
            for parameter, *moments in zip(self.parameters, self.exp_avg, self.exp_avg_sq, self.steps, strict=True)
            if parameter.grad is not None
        ]
        if not rows:
            return
        parameters, gradients, exp_avg, exp_avg_sq, steps = (list(column) for column in zip(*rows, strict=True))
        adamw(
            parameters, gradients, exp_avg, exp_avg_sq, [], steps, fused=self.fused, amsgrad=False,
            beta1=self.betas[0], beta2=self.betas[1], lr=lr, weight_decay=self.weight_decay, eps=EPS, maximize=False,
        )  # fmt: skip
