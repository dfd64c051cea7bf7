"""What the page refuses: how large, how long, how often and how many at once."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, fields


class PageError(ValueError):
    """What a person did wrong, or what went wrong here, in words that may stand on the page."""


@dataclass(frozen=True)
class PageLimits:
    """
    Args:
        seconds: The longest clip.
        megabytes: The largest upload, in millions of bytes.
        megapixels: The largest picture of a clip.
        characters: The longest text or transcript; subtitles may have ten times as many.
        requests_per_minute: Of one network address.
        at_once: Analyses that run at the same time.
        waiting: Requests that wait for their turn; more are refused.
        minutes_kept: After which an upload is deleted if its page is still open.
    """

    seconds: float = 60.0
    megabytes: float = 50.0
    megapixels: float = 9.0
    characters: int = 2000
    requests_per_minute: int = 20
    at_once: int = 1
    waiting: int = 20
    minutes_kept: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"`{field.name}` must be above 0; got {getattr(self, field.name)}.")


class RateLimiter:
    """
    Counts the requests of each address over the last minute. It remembers the most recent addresses alone, so that its
    memory is bounded.

    Args:
        per_minute: Requests that an address may send in any 60 seconds.
        clock: Seconds since some instant.
        addresses: How many addresses are remembered.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic, addresses: int = 10_000):
        if per_minute < 1 or addresses < 1:
            raise ValueError(f"`per_minute` and `addresses` must be at least 1; got {per_minute} and {addresses}.")
        self.per_minute = per_minute
        self._clock = clock
        self._addresses = addresses
        self._requests: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._requests)

    def count(self, address: str) -> None:
        """
        Counts a request; a refused one does not count.

        Raises:
            PageError: for one too many, with the seconds to wait.
        """
        with self._lock:
            now = self._clock()
            times = self._requests.setdefault(address, deque())
            self._requests.move_to_end(address)
            while times and now - times[0] >= 60:
                times.popleft()
            if len(times) >= self.per_minute:
                wait = max(1, round(60 - (now - times[0])))
                raise PageError(
                    f"That was more than {self.per_minute} requests within a minute. Please try again in {wait} "
                    f"second{'s' if wait > 1 else ''}."
                )
            times.append(now)
            if len(self._requests) > self._addresses:
                self._requests.popitem(last=False)


def network_address(host: str | None, forwarded: str | None, behind_proxy: bool) -> str:
    """
    Whose request it is.

    Args:
        host: The other end of the connection.
        forwarded: The header X-Forwarded-For, to which each proxy appends who asked it. A sender can begin it with
            anything, so that its end is believed: the last address that is not one of a private network of proxies.
        behind_proxy: Whether all connections come from a proxy, as on the Hub.
    """
    if behind_proxy:
        for name in reversed((forwarded or "").split(",")):
            try:
                address = ipaddress.ip_address(name.strip())
            except ValueError:
                break
            if address.is_global:
                return str(address)
    return host or "unknown"
