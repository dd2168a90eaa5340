"""The admission of every request: the steps before a service or one of the gateway's pages handles the request.

The steps in their order, each with the reason for its place. No step reads what a later step decides. Steps in
brackets do not exist yet.

    request id              first, so that every refusal below can be found again
    route                   one look-up; whether the service exists is noted here, and told below
    shed                    before everything that costs more than a refusal; requests for services only
    method                  one comparison
    origination             before everything that counts by client; a certificate is for the host of its handshake
    session                 of an operator, below /admin: no limit counts what an operator who has logged in asks for. A
                            look-up, so that a flood of made-up sessions meets the limit by address like any flood
    limit by address        before a signature is checked
    preflight               before authentication: a browser sends no credential with a preflight
    authenticate            by the route's rule; before 404, so that only a client with a token learns what exists. A
                            ticket (ticketing.py) stands for a token, and the session for a credential
    revocations             of the principal, behind the caches of verdicts, tickets and sessions, which know of none.
                            With REVOCATION_ON_ERROR=closed no credential opens a service while revocations of other
                            gateways are not heard; pages go on, so that operators can act meanwhile
    unknown service         before everything that is a service's own
    scopes                  of the service or route
    limit by principal      once the principal is known; what the request counts under in flight is known, too
    origin, stream limits   last, by the journey: a place among the streams is taken by a request that may have one

Request id and route are found before `admit()` is called: the former by the Journal, the latter by the Router. Where
a service has CORS, the response is annotated next (cross_origin.py), so that a page can read every refusal below. The
Router also sheds (shedding.py), before a handler is made, because a refusal under overload is to cost little. A journey
takes the last step itself, because only a stream has it.

A step may wait, for example for a limit that is kept in Redis: `admit()` then yields what the step waits for. While no
step waits, no task and no future is made. `admit()` hands its result on instead of returning the result, because a
generator that returns a value raises StopIteration (measured: 1 % of the gateway's work for a small GET).
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from tornado_gateway.errors import (
    CertificateRequired,
    GatewayError,
    InsufficientScope,
    MethodNotAllowed,
    OriginNotAllowed,
    RevocationsUnavailable,
    Revoked,
    Unauthorized,
)
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.cross_origin import cors_of
from tornado_gateway.handlers.journal import Journal
from tornado_gateway.handlers.limiting import claims, config_of, limit
from tornado_gateway.handlers.session import find_session
from tornado_gateway.handlers.ticketing import redeem
from tornado_gateway.policy.access import DEFAULT, JWT, KEY, MTLS, NOTHING, SESSION, Access, Kind
from tornado_gateway.policy.client_certificate import ClientCertificate
from tornado_gateway.policy.http.credentials import Asked
from tornado_gateway.policy.http.forwarding import Origination, originate
from tornado_gateway.policy.http.handshake import ANY_ORIGIN, SAME_ORIGIN, check_origin
from tornado_gateway.policy.limits.in_flight import Claim
from tornado_gateway.policy.principal import ANYBODY, Authenticator, Holder, Principal
from tornado_gateway.policy.routing import REFUSED_METHODS, Route
from tornado_gateway.policy.tickets.ticket import Use
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.http1 import RequestHead

SAFE = (b"GET", b"HEAD", b"OPTIONS")  # methods that change nothing (RFC 9110 §9.2.1)

T = TypeVar("T")
F = TypeVar("F")

# What a step waits for is yielded; the step goes on with the result or the exception. An exception that a step does not
# catch refuses the request.
Steps = Generator[Awaitable[Any], Any, T]


@dataclass(slots=True, eq=False)
class Admitted(Generic[F]):
    """The result of an admission.

    Attributes:
        found: what the route leads to.
        origination: who the client is, and how the request reached the gateway.
        principal: ANYBODY where no token is needed.
        kind: of the credential; NOTHING where none is needed.
        looks_for_keys: whether the request could have come with an API key.
        authenticator: says which tokens endpoints may see, and what endpoints learn of the principal; None if no
            token is ever asked for.
        claims: what the request counts under while it is in flight.
    """

    found: F
    origination: Origination
    principal: Principal
    kind: Kind
    looks_for_keys: bool
    authenticator: Authenticator | None
    claims: tuple[Claim, ...] = ()

    def visible_target(self, target: bytes) -> bytes:
        """A target without tokens that endpoints must not see."""
        if self.authenticator is None or not self.authenticator.sources.hides_parameters:
            return target
        return self.authenticator.sources.visible_target(target)

    def visible_lines(self, lines: bytes) -> bytes:
        """Field lines of the request without tokens that endpoints must not see, and with the principal's claims."""
        if self.authenticator is None:
            return lines
        if self.authenticator.sources.hides_fields or self.looks_for_keys:
            lines = self.authenticator.sources.visible_lines(lines, self.kind, without_copies=self.looks_for_keys)
        claim_fields = self.authenticator.claim_fields
        return claim_fields.lines(lines, self.principal.claims) if claim_fields else lines


def admit(
    gateway: Gateway,
    route: Route[Any],
    journal: Journal,
    found: F | type[GatewayError],
    then: Callable[[Admitted[F]], None],
    access: Access = DEFAULT,
    *,
    is_preflight: bool = False,
) -> Steps[None]:
    """Take a request through the steps that all requests have.

    Args:
        journal: gets the client's address as soon as the address is known.
        found: the result of the look-up: a service, None for a page, or the error of an unknown service or page.
        then: is called with the result, unless a step refuses the request.
        access: what the route or the service asks of clients.
        is_preflight: whether the request is a preflight (Fetch §3.3.2): PUBLIC, and of a method that no route names.

    Raises:
        GatewayError: a step refuses the request.
    """
    exchange = journal.exchange
    head = exchange.head
    # Method.
    is_served = not route.methods or head.method in route.methods or is_preflight
    if head.method in REFUSED_METHODS or not is_served:
        raise MethodNotAllowed(route.allowed)
    # Origination. From here on the journal knows the client.
    connection = exchange.connection
    origination = originate(
        head.known_fields, connection.peer, connection.scheme, head.host, gateway.forwarding.trusted
    )
    journal.client = origination.client
    certificate = connection.certificate
    origination = _certified(origination, certificate, head) if certificate else origination
    # Session.
    session = find_session(gateway, head.known_fields, origination) if route.takes_sessions else None
    # Limit by address, or by a field.
    limits = None if session else gateway.limits
    config = limits and config_of(limits, route, found)
    later = limits and config and limit(limits, config.before, exchange, journal, ANYBODY, route, found)
    if later:
        yield from later
    # Preflight: needs no credential, because `access` is PUBLIC. Authenticate.
    principal, kind, authenticator = ANYBODY, NOTHING, gateway.authenticator
    accepted: frozenset[Kind] | None = None
    note = _noted(gateway, authenticator, route, access, head) if authenticator else None
    if authenticator and note and (recalled := authenticator.recall(note.token)):
        principal, kind, accepted = recalled, JWT, note.accepted
        authenticator.accepted += 1
    elif authenticator and (accepted := _accepted(route, head.method, access, authenticator)) is not None:
        if session:
            principal, kind = session.principal, SESSION
        else:
            asking = _Asking(authenticator, route, access, certificate)
            principal, kind = yield from _authenticate(gateway, asking, accepted, head, origination, found)
            authenticator.accepted += 1
    journal.principal = principal.name
    # Unknown service, or unknown page.
    if isinstance(found, type):
        raise found
    # Scopes.
    if not access.scopes <= principal.scopes:
        raise InsufficientScope(scopes=access.scopes, is_token=kind is JWT)
    # Limit by principal.
    if limits and config and config.after:
        later = limit(limits, config.after_for(principal.scopes), exchange, journal, principal, route, found)
        if later:
            yield from later
    held = claims(config, exchange, journal, principal, route, found) if config and config.in_flight else ()
    looks_for_keys = accepted is not None and KEY in accepted
    then(Admitted(found, origination, principal, kind, looks_for_keys, authenticator, held))


def refuse_revoked(gateway: Gateway, holder: Holder, kind: Kind = Kind.JWT) -> None:
    """
    Args:
        kind: of the credential.

    Raises:
        Revoked: the credential is revoked.
    """
    if gateway.revocations.count and gateway.revocations.refuses(holder, time.time()):
        raise Revoked(is_token=kind is Kind.JWT)


def _refuse_in_doubt(gateway: Gateway, found: object) -> None:
    """
    Args:
        found: None for a page.

    Raises:
        RevocationsUnavailable: nobody can tell whether a credential is revoked.
    """
    if gateway.revocations.are_in_doubt and found is not None:
        raise RevocationsUnavailable


def _certified(origination: Origination, certificate: ClientCertificate, head: RequestHead) -> Origination:
    """An origination with the fields that tell services about the client's certificate.

    Raises:
        Misdirected: the request is for another host than the certificate.
    """
    certificate.check_host(head.host)
    return replace(origination, claims=origination.claims + certificate.lines)


class _Asking(NamedTuple):
    """What asks for the credential of a request.

    Attributes:
        access: what the route or the service asks of clients.
        certificate: of the connection.
    """

    authenticator: Authenticator
    route: Route[Any]
    access: Access
    certificate: ClientCertificate | None


class _Note(NamedTuple):
    """The token in the field lines of a request; see RequestFields.note.

    The note says which token is the credential of every request with these lines that is asked by the same. Whether the
    token is valid is asked for each request.
    """

    asking: _Asking
    accepted: frozenset[Kind]
    token: bytes


def _noted(
    gateway: Gateway, authenticator: Authenticator, route: Route[Any], access: Access, head: RequestHead
) -> _Note | None:
    """The note for a request that repeats the field lines of an admitted request of the connection; None for a request
    that is to be authenticated, as every request is while something is revoked, or may be."""
    note: Any = head.fields and head.fields.note
    if not note or gateway.revocations.count or gateway.revocations.are_in_doubt:
        return None
    by, at, asks, _ = note.asking
    return note if by is authenticator and at is route and asks is access else None


def _note(head: RequestHead, note: _Note) -> None:
    """Note a token for _noted().

    Not for a route that answers OPTIONS, where the method says whether a credential is needed, and not for a route that
    accepts a session, which comes before a token.
    """
    if head.fields:
        head.fields.note = note


def _accepted(route: Route[Any], method: bytes, access: Access, authenticator: Authenticator) -> frozenset[Kind] | None:
    """The kinds of credentials of which the request needs one; None for a request that needs none."""
    if not route.needs_token or (route.answers_options and method == b"OPTIONS"):
        return None
    accepted = access.accepted(authenticator.default)
    return None if NOTHING in accepted else accepted


def _authenticate(
    gateway: Gateway,
    asking: "_Asking",
    accepted: frozenset[Kind],
    head: RequestHead,
    origination: Origination,
    found: object,
) -> Steps[tuple[Principal, Kind]]:
    """Find and check the credential of a request.

    Raises:
        Unauthorized: with a challenge for each accepted kind.
        CertificateRequired: a client certificate is the only accepted kind.
    """
    authenticator, route, _, certificate = asking
    asked = Asked(head.known_fields, head.block, head.target, head.method, origination.client.client)
    if MTLS in accepted:
        by_certificate = _by_certificate(gateway, authenticator, asked, accepted, certificate)
        if by_certificate:
            _refuse_in_doubt(gateway, found)
            if head.method not in SAFE or head.upgrades:  # browsers show certificates to requests of any page
                _check_page(gateway, route, head, origination, found, needs_origin=False)
            return by_certificate, MTLS
    try:
        presented = authenticator.sources.find(asked, accepted)
        if presented.is_ticket:
            use = Use(_service_name(found), origin_of(head), origination.host)
            ticket = yield from redeem(gateway, presented.value, use, accepted)
            principal, kind = ticket.principal, ticket.kind
        else:
            checked = authenticator.check(presented)
            principal, kind = checked if isinstance(checked, Principal) else (yield checked), presented.kind
        if gateway.revocations.count:
            refuse_revoked(gateway, principal.holder, kind)
        _refuse_in_doubt(gateway, found)
    except Unauthorized as error:
        error.challenge(authenticator.sources.challenges(accepted))
        raise
    is_sent_by_browsers = presented.by_cookie or presented.kind is Kind.BASIC  # with requests of any page
    if is_sent_by_browsers and (head.method not in SAFE or head.upgrades):
        _check_page(gateway, route, head, origination, found, needs_origin=presented.by_cookie)
    if SESSION not in accepted and not route.answers_options and authenticator.sources.tells_by_fields(presented):
        _note(head, _Note(asking, accepted, presented.value))
    return principal, kind


def _by_certificate(
    gateway: Gateway,
    authenticator: Authenticator,
    asked: Asked,
    accepted: frozenset[Kind],
    certificate: ClientCertificate | None,
) -> Principal | None:
    """The principal of the connection's certificate; None if the request brings another credential that may count, or
    there is no certificate. A credential of the request precedes the certificate of the whole connection.

    Raises:
        CertificateRequired: there is no certificate, and nothing else is accepted.
        Revoked: the certificate is revoked.
        Unauthorized: the certificate has expired on the open connection.
    """
    is_only_way = accepted == {MTLS}
    if certificate is None:
        if is_only_way:
            raise CertificateRequired
        return None
    if not is_only_way and authenticator.sources.may_hold(asked):
        return None
    if certificate.ends <= time.time():
        raise Unauthorized("the client certificate has expired")
    refuse_revoked(gateway, certificate.principal.holder, MTLS)
    return certificate.principal


def _check_page(
    gateway: Gateway,
    route: Route[Any],
    head: RequestHead,
    origination: Origination,
    found: object,
    *,
    needs_origin: bool,
) -> None:
    """Refuse a request that a page of another origin may have caused, with a credential that the browser has added.

    Args:
        needs_origin: whether a request without Origin is refused. Only browsers send cookies of themselves; but tools
            that are no browsers send Basic credentials, too, and a browser names the origin of every such request
            (Fetch §3.2, byte-serializing a request origin).

    Raises:
        OriginNotAllowed: Origin names another origin, or is missing.
    """
    listed = {*found.config.websocket.allowed_origins} if isinstance(found, Service) else set()
    if gateway.cors:  # the operator has let these origins send cookies
        listed.update(cors_of(gateway.cors, route, found).credentialed_origins)
    origin = origin_of(head)
    if origin is None and needs_origin:
        raise OriginNotAllowed("a token in a cookie needs an Origin field")
    check_origin(origin, {SAME_ORIGIN, *listed} - {ANY_ORIGIN}, origination.host)


def origin_of(head: RequestHead) -> bytes | None:
    """The value of Origin; None for a request without Origin. Several values are one that equals no origin: no browser
    sends two, and whichever the gateway took, a service might take the other."""
    return b", ".join(head.known_fields[b"origin"]) if b"origin" in head.known_fields else None


def _service_name(found: object) -> str:
    return found.name if isinstance(found, Service) else ""


async def resume(steps: Steps[None], waits_for: Awaitable[Any]) -> None:
    """Take the rest of the steps, from a step that waits.

    Args:
        waits_for: what `steps` has yielded.

    Raises:
        GatewayError: a step refuses the request.
    """
    with contextlib.suppress(StopIteration):
        while True:
            try:
                result = await waits_for
            except Exception as error:
                waits_for = steps.throw(error)
            else:
                waits_for = steps.send(result)
