"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Sequence

_ENERGY_UNITS = ("pJ", "nJ", "µJ", "mJ", "J")
_COUNT_UNITS = ("", "k", "M", "G", "T")


def percent(fraction: float) -> str:
    """``0.93456`` as ``"93.46 %"``."""
    return f"{100 * fraction:.2f} %"


def points(difference: float) -> str:
    """A difference of two fractions as ``"0.50 points"``."""
    return f"{100 * difference:.2f} points"


def energy(picojoules: float) -> str:
    """``12_300_000`` as ``"12.3 µJ"``."""
    return _scaled(picojoules, _ENERGY_UNITS)


def count(number: float) -> str:
    """``12_300_000`` as ``"12.3 M"``."""
    return _scaled(number, _COUNT_UNITS)


def steps(number: float) -> str:
    """``1.5`` as ``"1.50 steps"``; ``8`` as ``"8 steps"``."""
    whole = float(number).is_integer()
    return f"{number:.0f} step{'' if number == 1 else 's'}" if whole else f"{number:.2f} steps"


def _scaled(number: float, units: Sequence[str]) -> str:
    """Three significant digits in the first unit (each is 1000 times the last) that reads below 1000."""
    for unit in units[:-1]:
        if float(f"{number:.3g}") < 1000:  # as it will be read: 999.9 rounds up into the next unit
            return _three_digits(number, unit)
        number /= 1000
    return _three_digits(number, units[-1])


def _three_digits(number: float, unit: str) -> str:
    digits = f"{number:,.0f}" if number >= 100 else f"{number:#.3g}"
    return f"{digits} {unit}".strip()
