"""Amounts of memory and time as people read them."""


def gigabytes(amount: float) -> str:
    """Returns bytes as people read them."""
    return f"{amount / 1e9:.2f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"


def duration(amount: float) -> str:
    """Returns seconds as people read them."""
    if amount < 120:
        return f"{amount:.0f} s"
    if amount < 600:
        return f"{amount / 60:.1f} min"
    return f"{amount / 60:.0f} min" if amount < 7200 else f"{amount / 3600:.1f} h"
