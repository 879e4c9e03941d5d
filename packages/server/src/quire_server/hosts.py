"""By which names a server may be called that only its own machine reaches, and that asks nobody for a key.

It trusts whoever reaches it, and so does a page in a browser there whose own name was made to lead to 127.0.0.1 (DNS
rebinding): to the browser the server then is the page's own, and no rule about origins stands between them. What gives
such a page away is the name in `Host`, which no page can choose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

ANY = "*"
"""Stands for every name."""


def is_loopback(host: str) -> bool:
    """Whether this address is one that only its own machine reaches."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


class Hosts:
    """Judges the `Host` of requests: addresses and localhost are known to be the server's own, and who was named."""

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._named = frozenset(map(_folded, named))

    def admit(self, given: Collection[str]) -> bool:
        """Whether all of these, as requests have them, may be. One without any comes from no browser."""
        return ANY in self._named or all(map(self._admits, given))

    def _admits(self, host: str) -> bool:
        name = _folded(host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0])
        return name in self._named or name == "localhost" or name.endswith(".localhost") or _address(name) is not None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that this is; None for a name, which can be made to lead anywhere."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _folded(name: str) -> str:
    return name.lower().removesuffix(".")
