#!/usr/bin/env bash
# The first optimiser of torch.optim that a process makes imports torch's compiler (torch._dynamo and what it needs):
# 824 modules, and nearly as much processor time as importing torch itself. The functional form of the same optimiser
# (torch.optim.adamw.adamw) imports none of it and gives the same bits.
# Guess before it was run: the compiler is imported by torch.compile.
# It matters to short jobs and to test suites: each process that trains a little pays for it once.
# Seen with torch 2.13.0 (CPU), Python 3.11. Fails if any of it changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
"$dir/venv/bin/python" - <<'PY'
import sys
import time

begin = time.process_time()
import torch

torch_s, torch_modules = time.process_time() - begin, len(sys.modules)
from torch.optim.adamw import adamw


def start():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, generator=generator) for _ in range(2)]


weight, gradient = start()
moments, steps = [torch.zeros_like(weight) for _ in range(2)], torch.tensor(0.0)
adamw(
    [weight], [gradient], [moments[0]], [moments[1]], [], [steps], fused=True, amsgrad=False, beta1=0.9, beta2=0.95,
    lr=1e-3, weight_decay=0.1, eps=1e-8, maximize=False,
)
assert "torch._dynamo" not in sys.modules
before, begin = len(sys.modules), time.process_time()
parameter = torch.nn.Parameter(start()[0])
parameter.grad = gradient
optimiser = torch.optim.AdamW([parameter], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
first_s = time.process_time() - begin
optimiser.step()
print(f"import torch: {torch_s:.1f} s, {torch_modules} modules")
print(f"the first AdamW: {first_s:.1f} s, {len(sys.modules) - before} modules more")
assert "torch._dynamo" in sys.modules and len(sys.modules) - before > 300
assert first_s > 0.3 * torch_s
assert torch.equal(weight, parameter)
PY
