"""Whether a decoder can be built is found out without building it."""

import resource

import pytest

from flowlab.core.errors import CacheMismatchError
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.build import require_decoder
from flowlab.study.recipe import DecoderSettings

SPEC = ConditionSpec(8, (TokenGroup("history", 1),))


@pytest.mark.parametrize("kind", ["transformer", "slot-queries"])
def test_a_decoder_larger_than_any_memory_is_looked_at_without_any(kind: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    require_decoder(DecoderSettings(kind=kind, width=16384, layers=16, heads=16), SPEC, 6, 3)  # hundreds of GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_what_the_condition_lacks_is_told() -> None:
    with pytest.raises(CacheMismatchError, match="token group 'waypoints'"):
        require_decoder(DecoderSettings(width=16, heads=2, layers=1, waypoint_embedding=True), SPEC, 6, 3)
