"""How numbers and moments are written for people."""

from datetime import UTC, datetime

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_STEPS = (
    (60, "second"),
    (60, "minute"),
    (24, "hour"),
    (30, "day"),
    (12, "month"),
)


def human_size(num_bytes: int) -> str:
    """`1 byte`, `14.2 kB`, `3 MB`: powers of 1000, as disks and the public Hub count."""
    if num_bytes == 1:
        return "1 byte"
    size = float(num_bytes)
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size /= 1000
        unit += 1
    digits = f"{size:.0f}" if unit == 0 or size >= 99.95 else f"{size:.1f}".removesuffix(".0")
    return f"{digits} {_UNITS[unit]}"


def human_ago(moment: datetime, now: datetime) -> str:
    """`just now`, `3 hours ago`, `2 years ago`."""
    amount = (now - moment).total_seconds()
    if amount < 45:
        return "just now"
    unit = "second"
    unit = "year"
    for step, name in _STEPS:
        if amount < step:
            unit = name
            break
        amount /= step
    whole = max(1, int(amount))
    return f"{whole} {unit}{'' if whole == 1 else 's'} ago"


def human_count(number: int) -> str:
    """`987`, `12.3k`, `4M`."""
    for limit, suffix in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if number >= limit:
            return f"{number / limit:.1f}".removesuffix(".0") + suffix
    return str(number)


def machine_time(moment: datetime) -> str:
    """For `<time datetime>`; the page's script shows it in the reader's own zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def full_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%-d %B %Y, %H:%M UTC")
