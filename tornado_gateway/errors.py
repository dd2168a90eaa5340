"""The errors that end a request, as a tree of exceptions.

GatewayError
├── BadRequest                400  the request is at fault
│   ├── ContentTooLarge       413
│   ├── TargetTooLong         414
│   ├── MethodTooLong         501
│   ├── HeadTooLarge          431
│   ├── ExpectationFailed     417
│   ├── RequestTimeout        408  the request came too slowly
│   │   └── ClientStalled     408  the client read the response too slowly
│   │       └── SlowConsumer  408  the client read the stream too slowly
│   ├── UpgradeRequired       426
│   └── VersionNotSupported   505
├── LoopDetected              508
├── Unauthorized              401
│   └── Revoked               401
├── KeysUnavailable           503
├── InsufficientScope         403
├── CertificateRequired       403
├── Misdirected               421
├── OriginNotAllowed          403
├── ActNotAllowed             403
├── NotFound                  404
│   └── UnknownService        404
├── MethodNotAllowed          405
├── ConfigurationRefused      422  the configuration cannot be reloaded
├── ReloadUnfinished          504  the reload takes long, and goes on
├── TooManyStreams            429
├── TooManyInFlight           429
├── RateLimited               429  the client has used its quota
├── TooManyTickets            429
├── TooManyAttempts           429  the client has failed to log in too often
├── Overloaded                503  this gateway protects itself
│   ├── StreamLimitReached    503
│   ├── EndpointsBusy         503
│   ├── Overflow              503
│   ├── CircuitOpen           503
│   ├── Shed                  503
│   ├── LimitsUnavailable     503
│   ├── TicketsUnavailable    503
│   ├── RevocationsUnavailable 503  REVOCATION_ON_ERROR is closed, and Redis is away
│   ├── PasswordChecksBusy    503
│   ├── OutOfSockets          503  this machine can make no further connection
│   ├── WorkersUnavailable    503  the other workers cannot be asked
│   └── Draining              503
├── NotCached                 504  the client wants an answer from the cache alone
├── ClientGone                499  the client left before the response's head; never sent
│   └── ClientClosed          499  the client left after the response's head; the log has the sent status
└── UpstreamError             502  the endpoint is at fault
    ├── ConnectFailed         502  no connection: nothing was sent
    │   ├── NameNotResolved   502
    │   └── TLSFailed         502
    ├── UpstreamReset         502  the connection ended before the response was complete
    ├── UpstreamInvalid       502  the response is not valid HTTP
    └── UpstreamTimeout       504
        ├── ConnectTimeout    504  no connection: nothing was sent
        │   └── NameTimeout   504
        ├── RequestOutOfTime  504  the whole request took too long
        ├── ResponseTooSlow   504
        ├── HeadTimeout       504
        └── IdleTimeout       504  the response stopped after the head

Each class has:

status  the HTTP status of the response.
code    the stable "error" member of the JSON body, for programs.
reason  the cause in the access log: finer than code, also stable.
proxy   the error type of the Proxy-Status field (RFC 9209 §2.3), or None.
type    the problem type (RFC 9457 §3.1.1) if the code has a registered type; "" for a type of the gateway's own.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar


class GatewayError(Exception):
    """Something failed inside the gateway.

    The response contains the message, or the first line of the class's docstring if the message is empty. Neither may
    contain an address or a secret.

    Args:
        message: a clause for the client.
        fields: header fields of the response.

    Attributes:
        retry_after: seconds until a retry may succeed; 0 if unknown.
        members: further members of the JSON body (RFC 9457 §3.2).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    reason: ClassVar[str] = "internal_error"
    proxy: ClassVar[str | None] = "proxy_internal_error"
    type: ClassVar[str] = ""
    retry_after = 0.0
    members: Mapping[str, object] = MappingProxyType({})

    def __init__(self, message: str = "", fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.message = message or (type(self).__doc__ or "").partition("\n")[0]
        self.fields = fields


class BadRequest(GatewayError):
    """The request is malformed."""

    status, code, reason, proxy = 400, "bad_request", "bad_request", "http_request_error"


class ContentTooLarge(BadRequest):
    """The request's body is larger than this gateway accepts."""

    status, code, reason = 413, "content_too_large", "content_too_large"


class TargetTooLong(BadRequest):
    """The request target is longer than this gateway accepts."""

    status, code, reason = 414, "target_too_long", "target_too_long"


class MethodTooLong(BadRequest):
    """The request method is longer than this gateway accepts."""

    status, code, reason = 501, "method_too_long", "method_too_long"


class HeadTooLarge(BadRequest):
    """The request's header section is larger than this gateway accepts."""

    status, code, reason = 431, "head_too_large", "head_too_large"


class ExpectationFailed(BadRequest):
    """The only expectation this gateway can meet is 100-continue."""

    status, code, reason = 417, "expectation_failed", "expectation_failed"


class RequestTimeout(BadRequest):
    """The request did not arrive in time."""

    status, code, reason = 408, "request_timeout", "request_timeout"


class ClientStalled(RequestTimeout):
    """The client did not take the response in time. Logged, never sent."""

    reason = "client_stalled"


class SlowConsumer(ClientStalled):
    """The client took its stream too slowly. Logged, never sent."""

    reason = "slow_consumer"


class UpgradeRequired(BadRequest):
    """Only a WebSocket handshake is served here."""

    status, code, reason = 426, "upgrade_required", "upgrade_required"

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message, ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Version", b"13"))
        )


class VersionNotSupported(BadRequest):
    """This gateway speaks HTTP/1.1 and HTTP/1.0."""

    status, code, reason = 505, "version_not_supported", "version_not_supported"


class LoopDetected(GatewayError):
    """The request has already passed through this gateway."""

    status, code, reason, proxy = 508, "loop_detected", "loop_detected", "proxy_loop_detected"


class NotFound(GatewayError):
    """Nothing is served at this path."""

    status, code, reason, proxy = 404, "not_found", "not_found", "destination_not_found"


class UnknownService(NotFound):
    """No service has this name."""

    code, reason = "unknown_service", "unknown_service"


# Methods in the Allow field. The gateway forwards other methods too, except TRACE and CONNECT.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class MethodNotAllowed(GatewayError):
    """This method is not served here.

    Args:
        allowed: methods for the Allow field (RFC 9110 §15.5.6).
    """

    status, code, reason = 405, "method_not_allowed", "method_not_allowed"
    proxy = "http_request_denied"

    def __init__(self, allowed: Iterable[str] = METHODS, message: str = "") -> None:
        super().__init__(message, ((b"Allow", ", ".join(allowed).encode("ascii")),))


NOT_VALID = "the credential is not valid"  # whatever the cause: an answer that says more would help to guess
BEARER_CHALLENGE = b'Bearer realm="gateway"'


class Unauthorized(GatewayError):
    """A valid credential is needed.

    Args:
        invalid: whether the request had a token, so that the challenge has error="invalid_token" (RFC 6750 §3.1).
    """

    status, code, reason, proxy = 401, "unauthorized", "unauthorized", "http_request_denied"

    def __init__(self, message: str = "", *, invalid: bool = False) -> None:
        super().__init__(message)
        self._is_token_invalid = invalid
        self.challenge((BEARER_CHALLENGE,))

    def challenge(self, challenges: Iterable[bytes]) -> None:
        """Name the ways to authenticate (RFC 9110 §11.6.1).

        Args:
            challenges: at least one. Each has a field of its own: some clients read only the first of a list.
        """
        self.fields = tuple((b"WWW-Authenticate", self._completed(each)) for each in challenges)

    def _completed(self, challenge: bytes) -> bytes:
        is_about_tokens = self._is_token_invalid and challenge == BEARER_CHALLENGE
        return challenge + b', error="invalid_token"' if is_about_tokens else challenge


class Revoked(Unauthorized):
    """The credential is revoked. The answer is that to any invalid credential, and does not say why.

    Args:
        is_token: whether the credential is a token.
    """

    reason = "token_revoked"

    def __init__(self, *, is_token: bool = True) -> None:
        super().__init__(NOT_VALID, invalid=is_token)


class KeysUnavailable(GatewayError):
    """The keys that verify tokens are not known yet."""

    status, code, reason, proxy = 503, "keys_unavailable", "keys_unavailable", "http_request_denied"

    def __init__(self, message: str = "", retry_after: float = 5.0) -> None:
        super().__init__(message, (_retry_after(retry_after),))


class InsufficientScope(GatewayError):
    """The credential lacks a scope that this request needs.

    Args:
        scopes: the scopes that the credential must have.
        is_token: whether the credential is a token, so that a challenge names the scopes (RFC 6750 §3.1). No other
            scheme has scopes, and a challenge of another scheme would say that the credential is wrong.
    """

    status, code, reason, proxy = 403, "forbidden", "insufficient_scope", "http_request_denied"

    def __init__(self, message: str = "", scopes: Iterable[str] = (), *, is_token: bool = True) -> None:
        words = " ".join(sorted(scopes)).encode("ascii", "replace")
        challenge = b'Bearer realm="gateway", error="insufficient_scope", scope="%b"' % words
        super().__init__(message, ((b"WWW-Authenticate", challenge),) if is_token else ())


class CertificateRequired(GatewayError):
    """A client certificate is needed."""

    status, code, reason, proxy = 403, "certificate_required", "certificate_required", "http_request_denied"


class Misdirected(GatewayError):
    """The client certificate of this connection is for another host. Use a new connection."""

    status, code, reason, proxy = 421, "misdirected_request", "misdirected_request", "http_request_denied"


class OriginNotAllowed(GatewayError):
    """Pages of this origin may not open WebSockets here."""

    status, code, reason, proxy = 403, "forbidden", "origin_not_allowed", "http_request_denied"


class ActNotAllowed(GatewayError):
    """This client may not change anything here."""

    status, code, reason, proxy = 403, "forbidden", "act_not_allowed", "http_request_denied"


class ConfigurationRefused(GatewayError):
    """The configuration is not reloaded, and the old configuration stays."""

    status, code, reason = 422, "configuration_refused", "configuration_refused"


class ReloadUnfinished(GatewayError):
    """The reload takes longer than its answer may, and goes on."""

    status, code, reason = 504, "reload_unfinished", "reload_unfinished"


# The problem type of draft-ietf-httpapi-ratelimit-headers-10 §5.1, with the member "violated-policies".
_QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class TooManyStreams(GatewayError):
    """This client has as many streams as it may.

    Args:
        limit: greatest number of streams of a client, told as a policy of concurrent requests (ibid. §3.1.1).
    """

    status, code, reason, proxy = 429, "rate_limited", "client_stream_limit", "http_request_denied"
    type = _QUOTA_EXCEEDED
    members = MappingProxyType({"violated-policies": ["streams"]})

    def __init__(self, limit: int = 1, retry_after: float = 5.0) -> None:
        policy = b'"streams";q=%d;qu="concurrent-requests"' % limit
        super().__init__(fields=(_retry_after(retry_after), (b"RateLimit-Policy", policy)))


class TooManyInFlight(GatewayError):
    """This client has as many requests in flight as it may.

    Args:
        policies: names of the policies that refuse the request.
        limit: greatest number of requests in flight, told as a policy of concurrent requests (ibid. §3.1.1).
        quoted: the policy's name in RateLimit-Policy.
    """

    status, code, reason, proxy = 429, "rate_limited", "client_in_flight_limit", "http_request_denied"
    type = _QUOTA_EXCEEDED

    def __init__(self, policies: Iterable[str] = (), limit: int = 1, quoted: bytes = b'"in-flight"') -> None:
        policy = b'%b;q=%d;qu="concurrent-requests"' % (quoted, limit)
        super().__init__(fields=(_retry_after(1.0), (b"RateLimit-Policy", policy)))
        self.members = {"violated-policies": list(policies)}


class RateLimited(GatewayError):
    """This client has used its quota.

    Args:
        policies: names of the policies that refuse the request.
        retry_after: seconds until all policies would admit the request; rounded up for Retry-After.
    """

    status, code, reason, proxy = 429, "rate_limited", "quota_exceeded", "http_request_denied"
    type = _QUOTA_EXCEEDED

    def __init__(self, policies: Iterable[str] = (), retry_after: float = 1.0) -> None:
        super().__init__(fields=(_retry_after(retry_after),))
        self.retry_after = retry_after
        self.members = {"violated-policies": list(policies)}


class TooManyTickets(GatewayError):
    """This client has made as many tickets as it may within half a minute."""

    status, code, reason, proxy = 429, "rate_limited", "ticket_limit", "http_request_denied"

    def __init__(self, message: str = "", retry_after: float = 5.0) -> None:
        super().__init__(message, (_retry_after(retry_after),))


class TooManyAttempts(GatewayError):
    """This client has failed to log in too often.

    Args:
        retry_after: seconds until the client may try again; rounded up for Retry-After.
    """

    status, code, reason, proxy = 429, "rate_limited", "failed_attempts", "http_request_denied"

    def __init__(self, message: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, (_retry_after(retry_after),))
        self.retry_after = retry_after


class Overloaded(GatewayError):
    """The gateway is at its limit.

    Args:
        retry_after: seconds until a retry may succeed; rounded up for Retry-After (RFC 9110 §10.2.3).
    """

    status, code, reason, proxy = 503, "overloaded", "overloaded", "connection_limit_reached"

    def __init__(self, message: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, (_retry_after(retry_after),))
        self.retry_after = retry_after


class StreamLimitReached(Overloaded):
    """There are as many streams as there may be."""

    reason = "stream_limit"


class EndpointsBusy(Overloaded):
    """The service has as many requests in flight as it may."""

    reason = "endpoints_busy"


class Overflow(Overloaded):
    """As many requests wait for the service as may."""

    reason = "overflow"


class CircuitOpen(Overloaded):
    """The service has failed too often and is left alone for a while."""

    code, reason, proxy = "circuit_open", "circuit_open", "destination_unavailable"


class Shed(Overloaded):
    """The gateway has more work than it can do."""

    reason = "shed"


class LimitsUnavailable(Overloaded):
    """The rate limits cannot be checked now."""

    reason = "limits_unavailable"


class TicketsUnavailable(Overloaded):
    """Tickets can be neither made nor checked now."""

    reason = "tickets_unavailable"


class RevocationsUnavailable(Overloaded):
    """Whether the credential is revoked cannot be checked now."""

    reason, proxy = "revocations_unavailable", "http_request_denied"


class PasswordChecksBusy(Overloaded):
    """As many passwords wait to be checked as may."""

    reason = "password_checks_busy"


class OutOfSockets(Overloaded):
    """The gateway can make no further connection to the service now."""

    reason = "out_of_sockets"


class WorkersUnavailable(Overloaded):
    """The other workers cannot be asked now."""

    reason = "workers_unavailable"


class Draining(Overloaded):
    """The gateway is about to stop."""

    reason = "draining"


@functools.lru_cache(maxsize=64)
def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    return b"Retry-After", str(max(1, math.ceil(seconds))).encode("ascii")


class NotCached(GatewayError):
    """The cache has no answer, and the request forbids to ask the service."""

    status, code, reason = 504, "not_cached", "not_cached"


class ClientGone(GatewayError):
    """The client left before the answer was complete. Logged, never sent."""

    status, code, reason, proxy = 499, "client_gone", "client_gone", None


class ClientClosed(ClientGone):
    """The client left in the middle of its response. Logged with that response's status, never sent."""

    reason = "client_closed"


class UpstreamError(GatewayError):
    """The service could not answer."""

    status, code, reason = 502, "upstream_unavailable", "upstream_error"
    proxy = "destination_unavailable"


class ConnectFailed(UpstreamError):
    """No connection to the service could be made."""

    reason, proxy = "connect_failed", "connection_refused"


class NameNotResolved(ConnectFailed):
    """The service's host name has no address."""

    reason, proxy = "name_not_resolved", "dns_error"


class TLSFailed(ConnectFailed):
    """No trusted TLS connection to the service could be made."""

    reason, proxy = "tls_failed", "tls_protocol_error"


class UpstreamReset(UpstreamError):
    """The service ended the connection before its response was complete."""

    reason, proxy = "upstream_reset", "connection_terminated"


class UpstreamInvalid(UpstreamError):
    """The service's response is not valid HTTP."""

    reason, proxy = "upstream_invalid", "http_protocol_error"


class UpstreamTimeout(UpstreamError):
    """The service did not answer in time."""

    status, code, reason, proxy = 504, "upstream_timeout", "upstream_timeout", "connection_timeout"


class ConnectTimeout(UpstreamTimeout):
    """No connection to the service was made in time."""

    reason = "connect_timeout"


class NameTimeout(ConnectTimeout):
    """No name server answered in time."""

    reason, proxy = "name_timeout", "dns_timeout"


class RequestOutOfTime(UpstreamTimeout):
    """The request took longer in all than it may."""

    reason, proxy = "request_out_of_time", "http_response_timeout"


class ResponseTooSlow(UpstreamTimeout):
    """The service sent its response more slowly than it may."""

    reason, proxy = "upstream_too_slow", "http_response_timeout"


class HeadTimeout(UpstreamTimeout):
    """The service did not begin its response in time."""

    reason, proxy = "response_header_timeout", "http_response_timeout"


class IdleTimeout(UpstreamTimeout):
    """The service fell silent in the middle of its response."""

    reason, proxy = "upstream_idle_timeout", "http_response_timeout"
