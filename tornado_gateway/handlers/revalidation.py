"""The Answerer of a request whose stored response needs a validation, or is stale.

stored response ──► conditional request ──► 304: the stored response, refreshed, is replayed    RFC 9111 §4.3.4
                                        ├─► another answer goes to the client, and is stored    §4.3.3
                                        ├─► to HEAD a 200 that speaks of the stored response    §4.3.5
                                        └─► an error: the stored response, if allowed           RFC 5861 §4
"""

from tornado_gateway.errors import GatewayError, UpstreamError
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.answerer import OutboundRequest
from tornado_gateway.handlers.attempts import Attempts
from tornado_gateway.handlers.looking import Look
from tornado_gateway.handlers.replay import Replay, replay
from tornado_gateway.handlers.storing import CachedRequest, CacheReceiver, Storing, dated, judge_of, public_head
from tornado_gateway.policy.http.caching.directives import NO_STORE, NONE, Directives
from tornado_gateway.policy.http.caching.purge import tags_of
from tornado_gateway.policy.http.caching.request import CacheRequest, by_name
from tornado_gateway.policy.http.caching.response import read_response
from tornado_gateway.policy.http.caching.reuse import ERRORS, reuse, survives_error
from tornado_gateway.policy.http.caching.status import Forwarded, forward_line
from tornado_gateway.policy.http.caching.stored import Stored, refreshed
from tornado_gateway.policy.http.caching.terms import Judge
from tornado_gateway.policy.http.caching.validation import belongs_to, condition, describes, refreshed_lines
from tornado_gateway.policy.spans import Trace
from tornado_gateway.policy.upstream.endpoint import FAILURE, IGNORED, SUCCESS, Endpoint, Kind, Outcome
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead


class Conditional:
    """A request that asks an endpoint whether a stored response is still good; see OutboundRequest."""

    __slots__ = (
        "_request", "_stored", "awaits_stream", "began", "is_repeatable", "key", "kind", "method", "pinned", "upgrades",
        "upload",
    )  # fmt: skip

    def __init__(self, request: OutboundRequest, stored: Stored) -> None:
        self._request, self._stored = request, stored
        self.method, self.kind, self.upgrades, self.began = (
            request.method,
            request.kind,
            request.upgrades,
            request.began,
        )
        self.is_repeatable, self.awaits_stream = request.is_repeatable, request.awaits_stream
        self.key, self.pinned, self.upload = request.key, request.pinned, request.upload

    @property
    def trace(self) -> Trace | None:
        return self._request.trace

    def replace_line(self, line: bytes, by: bytes) -> None:
        self._request.replace_line(line, by)

    def head_for(self, endpoint: Endpoint) -> bytes:
        start, end, lines = self._request.head_for(endpoint).partition(b"\r\n")
        stored = self._stored
        return b"%b%b%b%b" % (start, end, condition(lines[: -len(end)], stored.etag, stored.last_modified), end)


class Revalidation:
    """Asks an endpoint, with the condition of a stored response if the response has a validator.

    Args:
        request: sent to the endpoint.
        stored: the stored response.
        why: why the stored response does not answer by itself.
        receiver: gets the answer; the request by default.

    Attributes:
        status: of the endpoint's answer, or of the error without an answer; 0 before.
        reason: of the error; "" for none.
    """

    __slots__ = (
        "_asked", "_attempts", "_gateway", "_given", "_look", "_outcome", "_replay", "_request", "_service", "_stored",
        "_storing", "_why", "reason", "status",
    )  # fmt: skip

    def __init__(
        self, gateway: Gateway, service: Service, look: Look, request: CachedRequest, stored: Stored, why: Forwarded,
        receiver: CacheReceiver | None = None,
    ) -> None:  # fmt: skip
        self._gateway, self._service, self._look = gateway, service, look
        self._asked, self._stored, self._why = request, stored, why
        self._request = receiver or request
        self._storing = Storing(look, self._request, why)
        self._given: Stored | None = None  # the stored response that answers, if others may be answered so
        asking = Conditional(request, stored) if stored.etag or stored.last_modified else request
        self._attempts: Attempts = gateway.new_attempts(gateway, service, asking, self)
        self._replay: Replay | None = None
        self.status, self.reason = 0, ""
        self._outcome: Outcome | None = None  # how the endpoint did, if the status that the client gets does not say

    # ---- AnswerReceiver

    def on_interim(self, head: ResponseHead) -> None:
        self._request.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        self.status = head.status
        if head.status == 304 and isinstance(self._attempts.request, Conditional):
            self._take_304(head)
            return None
        if head.status in ERRORS and self._survives_error:
            self._outcome = self._service.outcomes.judge(head.status)
            self._given = self._stored
            self._answer(self._stored, forward_line(self._look.cache.name, self._why, status=head.status))
            return None
        if head.status == 200 and self._asked.method == b"HEAD" and self._is_described(head):
            self._renewed(head)  # RFC 9111 §4.3.5
            return self._storing.on_head(head, source)
        taker = self._storing.on_head(head, source)
        # RFC 9111 §4.3.3. A response that is stored replaces the stored response once the new response is whole.
        if head.status not in ERRORS and not self._storing.stores:
            self._forget()
        return taker

    def on_failure(self, error: GatewayError) -> None:
        self.status, self.reason = error.status, error.reason
        if error.status not in ERRORS or not self._survives_error:
            self._storing.on_failure(error)
            return
        self._outcome = FAILURE if isinstance(error, UpstreamError) else IGNORED
        detail = error.reason.encode("ascii")
        self._given = self._stored
        self._answer(self._stored, forward_line(self._look.cache.name, self._why, detail=detail))

    @property
    def _survives_error(self) -> bool:
        return self._stands_in(self._look.directives)

    def _stands_in(self, asked: Directives) -> bool:
        """Whether the stored response may answer a request with these directives instead of an error."""
        look, stored = self._look, self._stored
        age = stored.age(look.cache.now())
        return survives_error(stored.terms, age, asked, look.config.stale_if_error)

    # ---- for others that ask for the same; see Shared in collapsing.py

    @property
    def is_current(self) -> bool:
        return self._storing.is_current

    @property
    def stores(self) -> bool:
        return self._given is not None or self._storing.stores

    @property
    def is_for_others(self) -> bool:
        given = self._given
        return self._storing.is_for_others if given is None else self._is_good_for(given, NONE)

    def answers(self, request: CacheRequest) -> bool:
        given = self._given
        if given is None:
            return self._storing.answers(request)
        return given.answers(request) and self._is_good_for(given, request.directives)

    def _is_good_for(self, given: Stored, asked: Directives) -> bool:
        if given is self._stored:  # instead of an error
            return self._stands_in(asked)
        look = self._look
        return reuse(given.terms, given.age(look.cache.now()), asked, look.config.grace).answers

    # ---- the end of the question

    def _take_304(self, head: ResponseHead) -> None:
        """Replay the stored response with the fields of a 304; ask again if the 304 speaks of another response."""
        stored = self._stored
        if belongs_to(by_name(head.forwarded_lines), stored.etag, stored.last_modified):
            self._validated(head)
            return
        self._forget()
        self._attempts.close(SUCCESS, self._look.cache.now())
        self._attempts = self._gateway.new_attempts(self._gateway, self._service, self._asked, self)
        self.begin()

    def _is_described(self, head: ResponseHead) -> bool:
        stored = self._stored
        return describes(by_name(head.forwarded_lines), stored.etag, stored.last_modified, len(stored.body))

    def _validated(self, head: ResponseHead) -> None:
        """Answer with the stored response and the fields of a 304."""
        fresh, is_kept = self._renewed(head)
        self._given = fresh if is_kept else None
        self._answer(fresh, forward_line(self._look.cache.name, self._why, status=304, stored=is_kept))

    def _renewed(self, head: ResponseHead) -> tuple[Stored, bool]:
        """The stored response with the fields of a head that speaks of the response, and whether that is kept."""
        look, stored = self._look, self._stored
        wall, now = look.cache.wall(), look.cache.now()
        news = dated(public_head(self._request, head).forwarded_lines, judge_of(head).said, wall)
        lines = refreshed_lines(stored.lines, news)
        judge = Judge(read_response(lines))
        decision = judge.decide(look.as_get(), stored.status, wall, look.config)
        terms, initial_age = decision.terms, decision.initial_age(now - self._request.began)
        # The client gets the response, which is good now, even if the response may not be kept any longer.
        fresh = refreshed(stored, lines, tags_of(head.known_fields), terms or stored.terms, look, now, initial_age)
        is_kept = False
        if NO_STORE not in look.directives:  # RFC 9111 §5.2.1.5: about this exchange, not about what is stored
            self._forget()
            is_current = self._storing.is_current_with(stored.tags + fresh.tags)
            is_kept = terms is not None and is_current and look.keep(fresh)
        return fresh, is_kept

    def _answer(self, stored: Stored, line: bytes) -> None:
        self._request.tell(self._look.told(line))
        self._replay = replay(self._look, self._request, stored, stored.age(self._look.cache.now()))
        self._replay.begin()

    def _forget(self) -> None:
        self._look.cache.store.drop(self._look.key, self._stored)

    # ---- Answerer

    @property
    def endpoint(self) -> Endpoint | None:
        return self._attempts.endpoint

    @property
    def attempt_count(self) -> int:
        return self._attempts.attempt_count

    def begin(self) -> None:
        try:
            self._attempts.begin()
        except GatewayError as error:  # no endpoint can be asked
            self.on_failure(error)

    def abort(self) -> None:
        self._attempts.abort()
        if self._replay:
            self._replay.abort()

    def close(self, outcome: Outcome, now: float) -> None:
        self._attempts.close(self._outcome or outcome, now)
        if self._replay:
            self._replay.close(outcome, now)

    def becomes(self, kind: Kind) -> None:
        self._attempts.becomes(kind)

    @property
    def may_replace_stream(self) -> bool:
        return self._attempts.may_replace_stream

    def replace_stream(self) -> bool:
        return self._attempts.replace_stream()

    @property
    def is_blocked(self) -> bool:
        return self._attempts.is_blocked

    @property
    def is_held(self) -> bool:
        return self._replay.is_held if self._replay else self._attempts.is_held
