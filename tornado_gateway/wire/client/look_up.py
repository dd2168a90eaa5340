"""One look-up of a name in DNS: c-ares, on descriptors that the event loop watches.

c-ares does for the gateway what the C library's `getaddrinfo()` does: `search` and `ndots`, the next name server after
a silent or failing one, TCP after a truncated answer, aliases, and the order of RFC 6724. It needs no thread, so that
a look-up that hangs holds up nothing.

Each look-up has a channel of its own, which costs 60 microseconds. A channel keeps answers for as long as their TTL
says, so that an address that has moved would be found again; and it cannot give up one look-up of several.

pycares' own arguments for the path of resolv.conf and for the order of sources are left alone: the text of each is
freed before c-ares reads it (pycares 5.2.1).
"""

import asyncio
import socket
from collections.abc import Callable

import pycares

from tornado_gateway.errors import ConnectFailed, ConnectTimeout, NameNotResolved, NameTimeout
from tornado_gateway.policy.upstream.resolv_conf import ResolvConf

NO_DESCRIPTOR: int = pycares.ARES_SOCKET_BAD

# Seconds that a name server is waited for at first, if resolv.conf does not say: until the next one is asked; of a
# single one as long as the C library waits, because c-ares takes no answer that comes later.
PATIENCE_WITH_SEVERAL, PATIENCE_WITH_ONE = 2, 5
SHORTEST_TIMER = 0.001  # seconds; c-ares says 0 when one of its timers is due

Answer = tuple[str, ...]


def make_channel(conf: ResolvConf, watch: Callable[[int, bool, bool], None]) -> pycares.Channel:
    """
    Raises:
        pycares.AresError: no memory.
    """
    # resolv.conf(5): without search, names are looked up in the domain that this host's own name ends with.
    own = socket.gethostname().partition(".")[2]
    domains = ((own,) if own else ()) if conf.search is None else conf.search
    flags = pycares.ARES_FLAG_EDNS | (0 if domains else pycares.ARES_FLAG_NOSEARCH)
    return pycares.Channel(
        sock_state_cb=watch,
        flags=flags | (pycares.ARES_FLAG_USEVC if conf.uses_tcp else 0),
        servers=conf.servers,
        domains=domains,
        ndots=conf.ndots,
        timeout=conf.timeout or (PATIENCE_WITH_SEVERAL if len(conf.servers) > 1 else PATIENCE_WITH_ONE),
        tries=conf.attempts,
        rotate=conf.rotates,
    )


class LookUp:
    """A look-up under way.

    Args:
        name: with a dot at its end if `search` does not apply.
        family: socket.AF_INET or AF_INET6 for addresses of that family only; AF_UNSPEC for both.
        conf: which name servers are asked, and how.
        seconds: that it may take.

    Attributes:
        began: instant on the loop's clock.
        answer: the addresses, at least one; else NameNotResolved or NameTimeout. Shared by all who wait for it, who
            must not cancel it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, family: int, conf: ResolvConf, seconds: float
    ) -> None:
        self._loop = loop
        self.began = loop.time()
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self.answer.add_done_callback(lambda _: self.close())
        self._reading: set[int] = set()
        self._writing: set[int] = set()
        self._channel: pycares.Channel | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._limit = loop.call_later(seconds, self._fail, NameTimeout("No name server answered in time."))
        try:
            self._channel = make_channel(conf, self._watch)
            self._ask(self._channel, name, family)
        except (pycares.AresError, UnicodeError) as error:  # no memory; a name that is no ASCII
            self._fail(NameNotResolved(str(error)))
        self._await_timer()

    def close(self) -> None:
        """End the look-up and close its descriptors, at once. What memory c-ares holds is freed on pycares' thread."""
        self._fail(NameNotResolved("The look-up was given up."))
        self._limit.cancel()
        if self._timer:
            self._timer.cancel()
        channel, self._channel = self._channel, None
        if channel:
            channel.cancel()  # closes what it has open, each told to _watch() first
            channel.close()

    def take(self, other: "asyncio.Future[Answer]") -> None:
        """Have what another look-up of the same name came to as the answer, unless nobody answered that either."""
        error = other.exception()
        if self.answer.done() or isinstance(error, NameTimeout):
            return
        if isinstance(error, NameNotResolved):
            self._fail(error)
        else:
            self.answer.set_result(other.result())

    def _ask(self, channel: pycares.Channel, name: str, family: int) -> None:
        wanted = socket.AddressFamily(family)
        channel.getaddrinfo(name, None, family=wanted, type=socket.SOCK_STREAM, callback=self._tell)

    def _tell(self, found: pycares.AddrInfoResult | None, error: int | None) -> None:
        """c-ares has come to an end. It may not be closed from here."""
        if error == pycares.errno.ARES_ETIMEOUT:
            self._fail(NameTimeout("No name server answered in time."))
        elif error or not found or not found.nodes:
            reason = str(pycares.errno.strerror(error or pycares.errno.ARES_ENODATA))
            self._fail(NameNotResolved(f"{reason}."))
        elif not self.answer.done():
            self.answer.set_result(tuple(dict.fromkeys(node.addr[0].decode("ascii") for node in found.nodes)))

    def _fail(self, error: ConnectFailed | ConnectTimeout) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # seen here, for when all who asked have left

    def _watch(self, descriptor: int, reads: bool, writes: bool) -> None:
        """c-ares wants to be told when it can read or write; if neither, it is about to close the descriptor."""
        if reads and descriptor not in self._reading:
            self._loop.add_reader(descriptor, self._process, descriptor, NO_DESCRIPTOR)
            self._reading.add(descriptor)
        elif not reads and descriptor in self._reading:
            self._loop.remove_reader(descriptor)
            self._reading.remove(descriptor)
        if writes and descriptor not in self._writing:
            self._loop.add_writer(descriptor, self._process, NO_DESCRIPTOR, descriptor)
            self._writing.add(descriptor)
        elif not writes and descriptor in self._writing:
            self._loop.remove_writer(descriptor)
            self._writing.remove(descriptor)

    def _process(self, readable: int, writable: int) -> None:
        if self._channel:
            self._channel.process_fd(readable, writable)
            self._await_timer()

    def _await_timer(self) -> None:
        """Wake c-ares when its next timer is due."""
        if self._timer:
            self._timer.cancel()
        if self._channel and not self.answer.done():
            seconds = max(self._channel.timeout(), SHORTEST_TIMER)  # type: ignore[no-untyped-call]
            self._timer = self._loop.call_later(seconds, self._process, NO_DESCRIPTOR, NO_DESCRIPTOR)
