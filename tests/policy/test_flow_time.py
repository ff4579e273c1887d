"""The laws of flow time against their closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flowlab.policy.flow_time import FlowTimes
from flowlab.study.recipe import FlowTime

CPU = torch.device("cpu")
LAWS = [
    FlowTime(kind="uniform"),
    FlowTime(),
    FlowTime(mean=-1.0, std=2.0),
    FlowTime(kind="beta"),
    FlowTime(kind="beta", alpha=0.5, end=1.0),
    FlowTime(kind="beta", alpha=4.0, end=0.9),
]


def times(law: FlowTime, normal) -> torch.Tensor:
    """Flow times of one law, from normals in double precision."""
    return FlowTimes([law], CPU)(torch.as_tensor(normal, dtype=torch.float64).reshape(1, -1))[0]


def sample(law: FlowTime, num: int = 20_000):
    normal = torch.randn(num, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return times(law, normal).numpy()


def test_uniform_is_the_share_of_the_normals_below():
    quantiles = torch.tensor([0.025, 0.25, 0.5, 0.75, 0.975], dtype=torch.float64)
    normal = [-1.959963985, -0.67448975, 0.0, 0.67448975, 1.959963985]
    assert torch.allclose(times(FlowTime(kind="uniform"), normal), quantiles, atol=1e-8)


def test_logit_normal_is_the_sigmoid_of_a_normal():
    law = FlowTime(mean=math.log(3), std=2.0)
    # odds 3 e^(2 z): 3, and 3 * 9 and 3 / 9 at z = +-log 3
    assert times(law, [0.0, math.log(3), -math.log(3)]).tolist() == pytest.approx([3 / 4, 27 / 28, 1 / 4], abs=1e-6)


@pytest.mark.parametrize(
    ("alpha", "median"),
    [(1.0, 1 / 2), (2.0, 1 - 0.5**0.5), (0.5, 3 / 4), (1.5, 1 - 0.5 ** (2 / 3))],  # (1 - median)^alpha = 1/2
)
@pytest.mark.parametrize("end", [1.0, 0.8])
def test_the_median_of_beta_by_hand(alpha, median, end):
    assert times(FlowTime(kind="beta", alpha=alpha, end=end), [0.0]).item() == pytest.approx(end * median, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 4.0])
def test_beta_has_its_quantiles(alpha):
    shares = torch.tensor([0.001, 0.1, 0.3, 0.6, 0.9, 0.999], dtype=torch.float64)
    expected = 0.999 * (1 - stats.beta(alpha, 1).ppf(1 - shares.numpy()))
    quantiles = times(FlowTime(kind="beta", alpha=alpha), torch.special.ndtri(shares))
    assert quantiles.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (FlowTime(kind="uniform"), stats.uniform()),
        (FlowTime(), stats.norm()),
        (FlowTime(mean=-1.0, std=2.0), stats.norm(-1, 2)),
        (FlowTime(kind="beta"), stats.beta(1.5, 1)),
        (FlowTime(kind="beta", alpha=0.5, end=1.0), stats.beta(0.5, 1)),
        (FlowTime(kind="beta", alpha=4.0, end=0.9), stats.beta(4, 1)),
    ],
)
def test_a_sample_has_the_laws_distribution(law, expected):
    t = sample(law)
    x = {"uniform": t, "logit-normal": torch.logit(torch.tensor(t)).numpy(), "beta": (law.end - t) / law.end}[law.kind]
    assert stats.kstest(x, expected.cdf).statistic < 1.63 / len(x) ** 0.5  # exceeded by one sample in a hundred


@pytest.mark.parametrize(("alpha", "share"), [(1.0, 1 / 2), (1.5, 1 - 0.5**1.5), (4.0, 15 / 16), (0.5, 1 - 0.5**0.5)])
def test_beta_is_denser_towards_the_noise_the_larger_alpha_is(alpha, share):
    t = sample(FlowTime(kind="beta", alpha=alpha))
    assert (t < 0.999 / 2).mean() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_normals_give_times_on_the_path(law, dtype):
    normal = torch.tensor([[-40.0, -12.0, -6.0, 0.0, 6.0, 12.0, 40.0]], dtype=dtype)
    t = FlowTimes([law], CPU)(normal)
    assert torch.isfinite(t).all()
    assert t.min() >= 0
    assert t.max() <= (torch.tensor(law.end) if law.kind == "beta" else 1)  # the end as a run has it, in float32
    assert (t.diff() >= 0).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=20), st.sampled_from(LAWS))
def test_where_one_law_is_nearer_to_the_noise_so_is_every_other(normal, law):
    assert (times(law, sorted(normal)).diff() >= 0).all()


@pytest.mark.parametrize("num", [1, 7, 64, 100])
def test_a_run_has_the_times_that_it_would_have_alone(num):
    normal = torch.randn(len(LAWS), num, generator=torch.Generator().manual_seed(4))
    together = FlowTimes(LAWS, CPU)(normal)
    for run, law in enumerate(LAWS):
        assert torch.equal(together[run], FlowTimes([law], CPU)(normal[run : run + 1])[0])
