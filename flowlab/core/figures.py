"""Numbers as people read them, the same on a terminal and on a page."""

SMALLEST_SHOWN = 0.001


def figure(value: float) -> str:
    """A number with four decimals, or two digits of one that these would leave none or one of."""
    return f"{value:.2g}" if 0 < abs(value) < SMALLEST_SHOWN else f"{value:.4f}"


def share(value: float | None) -> str:
    """A share in percent, with a decimal more where it is less than a tenth; a dash for nothing."""
    return "-" if value is None else f"{value:.1%}" if value >= 0.0995 or value == 0 else f"{value:.2%}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours, whichever has two digits or so."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
