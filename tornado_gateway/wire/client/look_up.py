"""A look-up of a name in DNS: c-ares, on descriptors that the event loop watches.

c-ares does the work of the C library's `getaddrinfo()`: `search` and `ndots`, the next name server after a silent or
failing server, TCP after a truncated answer, aliases, and the order of RFC 6724. c-ares needs no thread, so a look-up
that hangs delays nothing else.

Each look-up has its own channel, which costs 60 µs. A shared channel would cache answers for their TTL, and could not
cancel a single look-up.

pycares' arguments for the path of resolv.conf and for the order of sources are not used: pycares 5.2.1 frees the text
of each before c-ares reads the text.
"""

import asyncio
import socket
from collections.abc import Callable

import pycares

from tornado_gateway.errors import ConnectFailed, ConnectTimeout, NameNotResolved, NameTimeout, OutOfSockets
from tornado_gateway.policy.upstream.resolv_conf import ResolvConf
from tornado_gateway.policy.upstream.srv_records import Record
from tornado_gateway.wire.client.lack import lacks_descriptors

NO_DESCRIPTOR: int = pycares.ARES_SOCKET_BAD

# Seconds of the first wait for a name server's answer, if resolv.conf has no timeout: with several name servers, until
# the next is asked; with a single name server, as long as the C library, because c-ares ignores later answers.
PATIENCE_WITH_SEVERAL, PATIENCE_WITH_ONE = 2, 5
SHORTEST_TIMER = 0.001  # seconds; c-ares returns 0 for a timer that is due

Answer = tuple[str, ...]


def make_channel(conf: ResolvConf, watch: Callable[[int, bool, bool], None]) -> pycares.Channel:
    """A channel of c-ares with the settings of resolv.conf.

    Args:
        watch: called with a descriptor, and whether to watch for reading and for writing; see LookUp.

    Raises:
        pycares.AresError: no memory.
    """
    # resolv.conf(5): without `search`, the search list is the domain of this host's name.
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
    """A look-up under way; begins at once.

    Args:
        name: a name with a final dot is looked up without the search list.
        family: socket.AF_INET, AF_INET6, or AF_UNSPEC for both.
        conf: name servers and options.
        seconds: greatest duration.

    Attributes:
        began: instant of the beginning on the loop's clock.
        answer: future of at least one address; fails with NameNotResolved, NameTimeout or OutOfSockets. Several
            callers share the future, so no caller may cancel the future.
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
        except (pycares.AresError, UnicodeError) as error:  # no memory; a name that is not ASCII
            self._fail(_why(str(error)))
        self._await_timer()

    def close(self) -> None:
        """End the look-up, and close its descriptors at once. pycares' thread frees the memory of c-ares."""
        self._fail(NameNotResolved("The look-up was given up."))
        self._limit.cancel()
        if self._timer:
            self._timer.cancel()
        channel, self._channel = self._channel, None
        if channel:
            channel.cancel()  # closes its descriptors, after a call of _watch() for each
            channel.close()

    def take(self, other: "asyncio.Future[Answer]") -> None:
        """Take the result of another look-up of the same name as the answer, unless that look-up timed out."""
        error = other.exception()
        if self.answer.done() or isinstance(error, NameTimeout):
            return
        if isinstance(error, NameNotResolved | OutOfSockets):
            self._fail(error)
        else:
            self.answer.set_result(other.result())

    def _ask(self, channel: pycares.Channel, name: str, family: int) -> None:
        wanted = socket.AddressFamily(family)
        channel.getaddrinfo(name, None, family=wanted, type=socket.SOCK_STREAM, callback=self._tell)

    def _tell(self, found: pycares.AddrInfoResult | None, error: int | None) -> None:
        """Called by c-ares at the end of the look-up. The channel must not be closed within this call."""
        if error == pycares.errno.ARES_ETIMEOUT:
            self._fail(NameTimeout("No name server answered in time."))
        elif error or not found or not found.nodes:
            reason = str(pycares.errno.strerror(error or pycares.errno.ARES_ENODATA))
            self._fail(_why(f"{reason}."))
        elif not self.answer.done():
            self.answer.set_result(tuple(dict.fromkeys(node.addr[0].decode("ascii") for node in found.nodes)))

    def _fail(self, error: ConnectFailed | ConnectTimeout | OutOfSockets) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # retrieved, so that asyncio does not warn if no caller is left

    def _watch(self, descriptor: int, reads: bool, writes: bool) -> None:
        """Called by c-ares to have a descriptor watched; c-ares closes the descriptor when both are False."""
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
        """Call c-ares when its next timer is due."""
        if self._timer:
            self._timer.cancel()
        if self._channel and not self.answer.done():
            seconds = max(self._channel.timeout(), SHORTEST_TIMER)  # type: ignore[no-untyped-call]
            self._timer = self._loop.call_later(seconds, self._process, NO_DESCRIPTOR, NO_DESCRIPTOR)


def _why(reason: str) -> NameNotResolved | OutOfSockets:
    """The error of a look-up that has failed at once: c-ares does not tell that it had no descriptor."""
    return OutOfSockets() if lacks_descriptors() else NameNotResolved(reason)


class RecordLookUp(LookUp):
    """A look-up of the records of type SRV of a name.

    Attributes:
        answer: future of the names of the targets; see LookUp.
        records: set when the answer has come.
    """

    records: tuple[Record, ...] = ()

    def _ask(self, channel: pycares.Channel, name: str, family: int) -> None:
        channel.search(name, pycares.QUERY_TYPE_SRV, callback=self._tell_records)

    def _tell_records(self, found: pycares.DNSResult | None, error: int | None) -> None:
        """Called by c-ares at the end of the look-up; see _tell()."""
        of = [each.data for each in found.answer if isinstance(each.data, pycares.SRVRecordData)] if found else []
        self.records = tuple(Record(each.priority, each.weight, each.port, each.target) for each in of)
        if self.records and not error and not self.answer.done():
            self.answer.set_result(tuple(each.target for each in self.records))
        else:
            self._tell(None, error)
