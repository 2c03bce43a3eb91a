"""Counts, speeds, times and sizes as tables write them."""

from __future__ import annotations


def format_count(value: float) -> str:
    """Such as `1.84M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            scaled = value / size
            return f"{scaled:.3g}{unit}" if scaled < 100 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"


def format_speed(value: float) -> str:
    """Such as `1,234`, and `7.5` below ten."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def format_time(seconds: float) -> str:
    """mm:ss; minutes are not folded into hours, so that the column has one form."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"


def format_bytes(value: float) -> str:
    """In MiB, and from 1024 of them on in GiB."""
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
