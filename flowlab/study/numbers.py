"""Whether the numbers that rules look at are numbers that runs will have."""

from flowlab.core.errors import StudyError, unknown_name
from flowlab.core.types import split_slice
from flowlab.core.vocabulary import (
    CHUNK_READOUTS,
    DEFAULT_CHANNEL,
    ERROR_METRICS,
    METRICS,
    MODE_READOUTS,
    OVERALL,
    READOUTS,
    SINGLE_MEAN,
)
from flowlab.study.document import FILE_NAME
from flowlab.study.selection import no_modes, selection_for
from flowlab.study.settings import MetricKey, StudyFile, source_channels
from flowlab.study.slices import frame_slices, slices_for, slot_slices


def require_numbers(file: StudyFile) -> None:
    """Raises in one sentence for a primary or a guardrail that no run will ever have: a rule would wait for ever."""
    _require_number("study.primary", file.study.primary, file)
    for name, rule in file.rules.items():
        for index, guardrail in enumerate(rule.guardrails):
            _require_number(f"rules.{name}.guardrails[{index}]", guardrail, file)


def _require_number(where: str, key: MetricKey, file: StudyFile) -> None:
    if key.metric not in METRICS:
        raise unknown_name("metric", key.metric, METRICS, where)
    better = METRICS[key.metric].better
    if key.direction != better:
        raise StudyError(
            f'{FILE_NAME}: {where}: a {better} {key.metric} is better. Write direction = "{better}" beside it.'
        )
    if key.readout not in READOUTS:
        raise unknown_name("readout", key.readout, READOUTS, where)
    if key.readout == SINGLE_MEAN and key.metric not in ERROR_METRICS:
        raise StudyError(
            f"{FILE_NAME}: {where}: the readout {SINGLE_MEAN!r} is a mean of errors and no chunk, so it has no "
            f"{key.metric}. Name another readout: {', '.join(CHUNK_READOUTS)}."
        )
    channels = source_channels(file.drives)
    if key.readout in MODE_READOUTS and selection_for(file.selection, channels) is None:
        raise no_modes(f"{FILE_NAME}: {where}", key.readout, channels or ())
    _require_channel(where, key, channels)
    _require_slice(where, key, file)


def _require_channel(where: str, key: MetricKey, channels: tuple[str, ...] | None) -> None:
    listed = ", ".join(channels or (DEFAULT_CHANNEL,))
    if channels is not None and key.channel and key.channel not in channels:
        if "channel" not in key.model_fields_set:
            raise StudyError(f"{FILE_NAME}: {where} names no channel. Name one: {listed}.")
        raise unknown_name("channel", key.channel, channels, where)
    if not key.channel and not METRICS[key.metric].over_all_channels:
        raise StudyError(f"{FILE_NAME}: {where}: {key.metric} is taken per channel. Name one: {listed}.")


def _require_slice(where: str, key: MetricKey, file: StudyFile) -> None:
    if key.slice.startswith("drive:"):
        _, drive = split_slice(key.slice)
        raise StudyError(
            f"{FILE_NAME}: {where}: a drive is not part of the slice's name. "
            f'Write slice = "{OVERALL}", drive = "{drive}".'
        )
    slices = _slices(key.metric, file)
    if key.slice not in slices:
        raise unknown_name(f"slice of {key.metric}", key.slice, slices, where)
    if key.drive is not None and (key.slice != OVERALL or METRICS[key.metric].slices == OVERALL):
        raise StudyError(
            f"{FILE_NAME}: {where} names drive {key.drive!r} and {key.metric} on {key.slice}; a rule may look at one "
            f'drive only with l1 or a metric of chunk means, and slice = "{OVERALL}". Leave the drive out.'
        )


def _slices(metric: str, file: StudyFile) -> tuple[str, ...]:
    """The slices that `metric` has rows for."""
    slices = slices_for(file.slices, source_channels(file.drives))
    taken_over = METRICS[metric].slices
    if taken_over == OVERALL:
        return (OVERALL,)
    frames = frame_slices(slices)
    return (*frames, *slot_slices(slices, file.windows.horizon)) if taken_over == "all" else frames
