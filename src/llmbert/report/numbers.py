"""Numbers → text a person reads: the digits that matter, thousands apart, units named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def number(value: Any) -> float | None:
    """The value where it is a finite number, else None."""
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if real else None


def significant(value: float, digits: int = 4) -> str:
    """A number to so many significant digits, with commas between thousands: 12345.6 → 12,350; 0.000012 → 1.2e-05."""
    if value == 0:
        return "0"
    places = digits - 1 - int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value: 999.96 is 1,000
    value = round(value, places)
    return f"{value:.{digits}g}" if abs(value) < 1e-4 or abs(value) >= 1e15 else f"{value:,.{max(0, places)}f}"


def duration(seconds: float, language: str = "en") -> str:
    """Seconds as 0.42 s, 42.1 s, 3 min 05 s, 1 h 02 min or 2 d 03 h (Chinese: 3 分 05 秒)."""
    units = ("天", "时", "分", "秒") if language == "zh" else ("d", "h", "min", "s")
    if seconds < 59.95:
        return f"{significant(seconds, 2 if seconds < 1 else 3)} {units[3]}"
    whole = round(seconds)
    sizes = (86400, 3600, 60, 1)
    i = 2 if whole < 3600 else 1 if round(whole / 60) < 1440 else 0
    small = round(whole / sizes[i + 1])
    ratio = sizes[i] // sizes[i + 1]
    return f"{small // ratio} {units[i]} {small % ratio:02d} {units[i + 1]}"


def data_size(count: float) -> str:
    """Bytes as 512 B, 1.2 MB (1 MB = 10^6 B)."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def quantity(count: float) -> str:
    """A count as 9,400, 12.3 M or 1.2 G."""
    return f"{count:,.0f}" if count < 9_999.5 else _scaled(count, ("", "k", "M", "G", "T"))


def _scaled(count: float, units: Sequence[str]) -> str:
    power = 0
    while round(count, 1 if power else 0) >= 1000 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    number = f"{count:.0f}" if not power or count >= 99.95 else f"{count:.1f}"
    return f"{number} {units[power]}".strip()
