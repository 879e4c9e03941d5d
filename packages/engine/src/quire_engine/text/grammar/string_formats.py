"""The `format`s of JSON Schema: which ones the grammar library holds, and what the others come to."""

from __future__ import annotations

from collections.abc import Mapping

ENFORCED = frozenset({"duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
"""Formats that the grammar library holds, as the tests of JSON Schema have shown."""

SAYS_NOTHING = frozenset({"password", "binary", "float", "double", "decimal", "int", "integer", "number"})
"""Formats of OpenAPI that add nothing to the type of a value."""

_YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_FOURTH = "(?:0[48]|[2468][048]|[13579][26])"  # the last two digits of leap years, but for full centuries
_LEAP_YEAR = f"(?:[0-9]{{2}}{_FOURTH}|{_FOURTH}00)"
_OF_31_DAYS = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
_OF_30_DAYS = "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
_FEBRUARY = "02-(?:0[1-9]|1[0-9]|2[0-8])"
_MONTH_AND_DAY = f"(?:{_OF_31_DAYS}|{_OF_30_DAYS}|{_FEBRUARY})"
_DATE = f"(?:{_YEAR}-{_MONTH_AND_DAY}|{_LEAP_YEAR}-02-29)"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"(?:{_CLOCK}:[0-5][0-9](?:\.[0-9]{{1,9}})?(?:Z|[+-]{_CLOCK}))"

PATTERNS: Mapping[str, str] = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}
"""Formats as regular expressions: the library's own would let 30 days pass for a month, and leap seconds at any hour.

After RFC 3339, without leap seconds and the year 0, which few programs can read, and to the nanosecond.
"""

_SIGNED = {f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)}
_UNSIGNED = {f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)}
BOUNDS: Mapping[str, tuple[int, int | None]] = {**_SIGNED, **_UNSIGNED, "uint": (0, None)}
"""Formats that are the least and the greatest of their integers."""
