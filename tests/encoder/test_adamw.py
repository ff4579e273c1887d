"""The optimiser's arithmetic is torch's own, bit by bit, and takes no compiler to begin."""

import subprocess
import sys

import pytest
import torch

from flowlab.encoder.adamw import AdamWGroup

SHAPES = [(5, 7), (9,), (1,), (3, 2, 4)]


@pytest.mark.parametrize("fused", [None, True])
def test_bits_are_those_of_torch_over_steps_of_changing_rate(fused: bool | None) -> None:
    generator = torch.Generator().manual_seed(1)
    ours = [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]
    theirs = [one.detach().clone().requires_grad_() for one in ours]
    group = AdamWGroup(ours, (0.9, 0.95), 0.1, fused)
    adamw = torch.optim.AdamW(theirs, betas=(0.9, 0.95), weight_decay=0.1, fused=fused)
    for step in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        lr = adamw.param_groups[0]["lr"] = 10.0 ** -(step + 1)
        adamw.step()
        group.update(lr)
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_what_has_no_gradient_stays_as_it_is() -> None:
    moved, still = torch.ones(2).requires_grad_(), torch.ones(2).requires_grad_()
    moved.grad = torch.ones(2)
    group = AdamWGroup([still, moved], (0.9, 0.95), 0.5)
    group.update(0.1)
    # decay 1 * (1 - 0.1 * 0.5), then a first step of the length lr
    assert still.tolist() == [1, 1] and moved.tolist() == pytest.approx([0.85, 0.85])
    assert [int(step) for step in group.steps] == [0, 1]


def test_the_first_step_of_a_process_imports_no_compiler() -> None:
    code = (
        "import sys, torch; from flowlab.encoder.adamw import AdamWGroup; p = torch.ones(2, requires_grad=True); "
        "p.grad = torch.ones(2); AdamWGroup([p], (0.9, 0.95), 0.1, fused=True).update(0.1); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
