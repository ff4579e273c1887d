#!/usr/bin/env bash
# torch.nn.init.trunc_normal_ of torch 2.13 draws by rejection; torch 2.9.1 took one uniform number an entry through the
# inverse distribution function. So at the same seed
# - a model that is initialised by it (vision transformers are) starts from other weights than under 2.9.1;
# - how many random numbers it takes depends on their values: what is drawn from the same generator afterwards moves too,
#   where it was the same whatever the bounds were;
# - the first entries depend on how many entries there are;
# - it reads values back, so a model cannot be built under FakeTensorMode ("DataDependentOutputException"); on the meta
#   device it can.
# Guess before it was run: one number an entry, the same weights as ever, and under FakeTensorMode nothing is drawn.
# It matters to whoever compares runs across versions of torch, or counts a model's memory without making it.
# Seen with torch 2.13.0 (CPU), Python 3.11; 2.9.1 gave the values of the inverse. Fails if any of it changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
"$dir/venv/bin/python" - <<'PY'
import math

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode


def drawn(entries, bound, seed=0):
    """The weights, and the number that the generator gives next."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.nn.init.trunc_normal_(torch.empty(entries), std=1.0, a=-bound, b=bound, generator=generator)
    return weight, torch.rand(1, generator=generator).item()


def by_the_inverse(entries, bound, seed=0):
    """As torch 2.9.1 draws."""
    generator = torch.Generator().manual_seed(seed)
    edge = math.erf(bound / math.sqrt(2))
    weight = torch.empty(entries).uniform_(-edge, edge, generator=generator).erfinv_().mul_(math.sqrt(2))
    return weight, torch.rand(1, generator=generator).item()


print("2.13.0:", [round(x, 4) for x in drawn(4, 1.0)[0].tolist()], "next:", round(drawn(4, 1.0)[1], 4))
print("as 2.9.1:", [round(x, 4) for x in by_the_inverse(4, 1.0)[0].tolist()], "next:", round(by_the_inverse(4, 1.0)[1], 4))
assert not torch.allclose(drawn(4, 1.0)[0], by_the_inverse(4, 1.0)[0], atol=1e-3)

after = {bound: drawn(4, bound)[1] for bound in (0.5, 1.0, 2.0)}
print("the number drawn next, by bound:", {bound: round(value, 4) for bound, value in after.items()})
assert len(set(after.values())) > 1
assert len({by_the_inverse(4, bound)[1] for bound in after}) == 1

assert not torch.equal(drawn(4, 1.0)[0], drawn(64, 1.0)[0][:4])

torch.nn.init.trunc_normal_(torch.empty(4, device="meta"), std=0.02)
try:
    with FakeTensorMode():
        torch.nn.init.trunc_normal_(torch.empty(4), std=0.02)
    raise SystemExit("FakeTensorMode has no trouble with it any more")
except DataDependentOutputException as error:
    print("under FakeTensorMode:", type(error).__name__, error)
PY
