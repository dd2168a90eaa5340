"""Who has failed, and when a request is to find out whether it works again.

    ejected    its breaker has taken it out: asked again when the opening is over, by as many as may probe at once
    doubted    it has failed, and who chooses by load avoids it for that: asked again once a second, unless its health
               checks fail, which find out themselves, or its breaker is open, whose opening is waited for

One request is risked for that, so it had better be one that can be sent again. Where no such request comes, any request
has to find out about an endpoint whose opening is over.
"""

from tornado_gateway.policy.upstream.endpoint import Ask, Endpoint
from tornado_gateway.policy.upstream.latency import DOUBT
from tornado_gateway.policy.upstream.probe_schedule import Agenda

# Seconds that an endpoint whose time is over waits for a request that may be sent again should the endpoint still be
# broken. Where no such request comes, any other one has to find out.
PATIENCE = 2.0


class Probation:
    """
    Attributes:
        doubted: endpoints that have failed since they last answered well.
    """

    __slots__ = ("_agenda", "doubted")

    def __init__(self) -> None:
        self.doubted: set[Endpoint] = set()
        self._agenda = Agenda()

    def doubt(self, endpoint: Endpoint) -> None:
        """An endpoint has failed, and has its penalty."""
        self.doubted.add(endpoint)
        self._agenda.put(endpoint, endpoint.latency.ask_at)

    def trust(self, endpoint: Endpoint) -> None:
        """An endpoint has answered well."""
        self.doubted.discard(endpoint)

    def forget(self, endpoint: Endpoint) -> None:
        """An endpoint is none any more."""
        self.doubted.discard(endpoint)
        self._agenda.forget(endpoint)

    def await_end(self, endpoint: Endpoint) -> None:
        """Probe an ejected endpoint when its opening is over; now, if it is and a probe was given back."""
        self._agenda.put(endpoint, endpoint.breaker.open_until)

    def await_chance(self, endpoint: Endpoint) -> None:
        """An endpoint can be used again, and is asked again if it is doubted."""
        if endpoint in self.doubted:
            self._agenda.put(endpoint, endpoint.latency.ask_at)

    def due(self, ask: Ask, *, alone: bool, none_passes: bool = False) -> Endpoint | None:
        """An endpoint that a request is to be sent to, to find out whether it works.

        Args:
            alone: whether no other one can be used: then any request will do.
            none_passes: whether there is no endpoint that a request had better be sent to.
        """
        until = ask.now if alone or ask.is_repeatable else ask.now - PATIENCE
        found, untouched = None, []
        while found is None and (each := self._agenda.take(until)):
            if each in ask.tried:
                untouched.append(each)
            elif each.is_ejected:
                if each.breaker.open_until > until:
                    self.await_end(each)
                elif each.breaker.passes(ask.now):  # else a probe is under way, and its end decides
                    found = each
            elif each.is_usable and each in self.doubted and self._is_due(each, ask, none_passes=none_passes):
                found = each
        if found and found.is_ejected:  # there may be room for more probes
            untouched.append(found)
        for each in untouched:
            self._agenda.put(each, ask.now)
        return found

    def _is_due(self, endpoint: Endpoint, ask: Ask, *, none_passes: bool) -> bool:
        """Whether a request is to ask a doubted endpoint now; one at a time."""
        latency = endpoint.latency
        is_over = ask.now >= latency.ask_at
        if is_over:
            latency.ask_at = ask.now + DOUBT
        self._agenda.put(endpoint, latency.ask_at)
        breaker = endpoint.breaker
        may = none_passes or (endpoint.is_healthy and breaker.passes(ask.now))
        return is_over and may and (ask.is_repeatable or breaker.is_open) and ask.admits(endpoint)
