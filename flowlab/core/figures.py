"""Numbers as people read them, the same on a terminal and on a page."""

SMALLEST_SHOWN = 0.001


def figure(value: float) -> str:
    """A number with four decimals, or two digits of one that these would leave none or one of."""
    return f"{value:.2g}" if 0 < abs(value) < SMALLEST_SHOWN else f"{value:.4f}"


def share(value: float | None) -> str:
    """A share in percent, with a decimal more where it is less than a tenth; a dash for nothing."""
    return "-" if value is None else f"{value:.1%}" if value >= 0.0995 or value == 0 else f"{value:.2%}"
