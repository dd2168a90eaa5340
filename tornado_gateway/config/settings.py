"""The settings of the gateway: the configs that the algorithms read, nested in a record.

Durations are float seconds. Each default stands at the field. variables.py names the field that each variable fills.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from tornado_gateway.adapters.authentication import AuthConfig
from tornado_gateway.adapters.logs import LogConfig
from tornado_gateway.adapters.redis_limits import MEMORY, LimitStoreConfig
from tornado_gateway.adapters.response_cache import StoreConfig
from tornado_gateway.adapters.tracing import TracingConfig
from tornado_gateway.config.services import EndpointSpec
from tornado_gateway.policy.access import ANY, DEFAULT, Kind, default_rule
from tornado_gateway.policy.acting import AdminConfig
from tornado_gateway.policy.draining import IdleEnds
from tornado_gateway.policy.http.forwarding import ForwardingConfig
from tornado_gateway.policy.http.stream_limits import StreamLimits
from tornado_gateway.policy.limits.rules import LimitConfig, Rule
from tornado_gateway.policy.overload import OverloadConfig
from tornado_gateway.policy.revocations import LOCAL
from tornado_gateway.policy.routing import RouteSpec
from tornado_gateway.policy.upstream.connection_config import UpstreamTLSConfig
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.upkeep.consul import ConsulConfig
from tornado_gateway.upkeep.discovery import DiscoveryConfig
from tornado_gateway.upkeep.key_set import KeySetConfig
from tornado_gateway.upkeep.kubernetes import KubernetesConfig
from tornado_gateway.wire.client.client import ClientConfig
from tornado_gateway.wire.server.certificates import TLSConfig
from tornado_gateway.wire.server.context import ServerConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Share of the timeout of a stop within which the last stream is told to end; the rest is for the stream to end.
STREAMS_END_WITHIN = 0.8


DEFAULT_MODE = 0o660  # of a unix socket: the gateway's user and group


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSpec:
    """A listener of LISTEN.

    Attributes:
        host: address, host name or EVERY_ADDRESS; "" for a unix socket.
        port: TCP port.
        path: of a unix socket; "" for TCP.
        mode: of the socket file.
        tls: whether clients speak TLS.
        proxied: whether each connection begins with a header of the PROXY protocol.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    mode: int = DEFAULT_MODE
    tls: bool = False
    proxied: bool = False

    @property
    def address(self) -> str:
        """Host and port; "" for neither.

        >>> ListenerSpec(host="::1", port=80).address, ListenerSpec(host="*", port=80).address
        ('[::1]:80', '*:80')
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if host else ""

    @property
    def place(self) -> str:
        """What no other listener may have, too."""
        return self.path or self.address


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where to listen.

    Attributes:
        listeners: of LISTEN, which replace `hosts` and `port`; () for none.
        tls: the files of the TLS listeners.
        hosts: addresses and host names, or EVERY_ADDRESS alone.
        port: TCP port; 0 for any free port.
        takeover: path of the unix socket by which a successor gets the listening sockets; "" for none.
    """

    hosts: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104  # a gateway is there to be reached
    port: int = 8080
    takeover: str = ""
    listeners: tuple[ListenerSpec, ...] = ()
    tls: TLSConfig = field(default_factory=TLSConfig)


@dataclass(frozen=True, slots=True)
class AdminListenConfig:
    """Where to listen for operators.

    Attributes:
        hosts: see ListenConfig; this machine alone by default.
        port: TCP port; 0 for any free port; None for no listener of their own.
        tls: whether operators speak TLS, with the certificates of TLS_CERT.
        socket: path of a unix socket for the user of the process; "" for none.
    """

    hosts: tuple[str, ...] = ("127.0.0.1",)
    port: int | None = None
    socket: str = ""
    tls: bool = False


@dataclass(frozen=True, slots=True)
class ShutdownConfig:
    """The durations of a drain in seconds.

    Attributes:
        timeout: time for requests in flight to finish.
        delay: time during which /readyz is 503 and connections are still accepted.
        spread: time over which streams are ended; see STREAMS_END_WITHIN.
    """

    timeout: float = 25.0
    delay: float = 0.0
    spread: float = 5.0

    @property
    def longest_spread(self) -> float:
        return self.timeout * STREAMS_END_WITHIN

    @property
    def idle(self) -> IdleEnds:
        """How idle connections end when the gateway stops: soon, because clients should leave."""
        return IdleEnds(min(1.0, self.longest_spread / 2), min(1.0, self.longest_spread / 2))

    @property
    def idle_of_replaced(self) -> IdleEnds:
        """How idle connections end when another process has taken over: late, because nobody waits for the end."""
        return IdleEnds(self.longest_spread / 2, self.longest_spread / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A service and its complete config.

    Attributes:
        endpoints: at least one endpoint; all differ.
        service: Settings.service with the service's own values.
        given: the JSON of the service's own values, by key: "breakerOpenMs".
    """

    name: str
    endpoints: tuple[EndpointSpec, ...]
    service: ServiceConfig = field(default_factory=ServiceConfig)
    given: Mapping[str, object] = field(default_factory=dict)

    @property
    def has_tls_endpoints(self) -> bool:
        """Whether the service has endpoints of TLS, by base URL or by a source."""
        return any(each.url.partition("://")[0].lower().endswith("https") for each in self.endpoints)


@dataclass(frozen=True, slots=True)
class SourcesConfig:
    """How the sources are asked that know endpoints of services."""

    consul: ConsulConfig = field(default_factory=ConsulConfig)
    kubernetes: KubernetesConfig = field(default_factory=KubernetesConfig)


@dataclass(frozen=True, slots=True)
class SharingConfig:
    """What several gateways share.

    Attributes:
        redis_url: of the Redis for everything that gateways share; "" for none.
        endpoints_secret: of all gateways that share what they know of endpoints; b"" for none.
        revocation_on_error: what holds while revocations of other gateways are not heard; see policy/revocations.py.
    """

    redis_url: str = field(default="", repr=False)
    endpoints_secret: bytes = field(default=b"", repr=False)
    revocation_on_error: str = LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a gateway, read once at the start.

    Attributes:
        environment: "development", "test" or "production".
        workers: number of processes that accept connections; 1: this process alone.
        event_loop: "auto", "uvloop" or "asyncio".
        admin: who may use the pages below /admin.
        admin_listen: where the pages for operators are served.
        endpoint_histograms: whether /metrics has a histogram of each endpoint; see Metrics.
        protects_figures: whether /metrics and /_pressure need a token where the pages below /admin do.
        ready_requires: services, or "*", without which /readyz is 503.
        service: the config of services without own values.
        services: the services of UPSTREAMS.
        routes: the routes of ROUTES.
        gateway_hosts: hosts that keep the gateway's own paths beside routes of their own.
        sharing: what several gateways share.
        limit_store: where the counters of rate limits are.
        cache_store: where responses are kept.
        upstreams_file: path of the file that names the services, if a file does.
        watches_files: whether a change of the .env file or of `upstreams_file` is a reload.
    """

    environment: str = "development"
    event_loop: str = "auto"
    workers: int = 1
    listen: ListenConfig = field(default_factory=ListenConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    shutdown: ShutdownConfig = field(default_factory=ShutdownConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    logs: LogConfig = field(default_factory=LogConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    key_set: KeySetConfig = field(default_factory=KeySetConfig)
    forwarding: ForwardingConfig = field(default_factory=ForwardingConfig)
    client: ClientConfig = field(default_factory=ClientConfig)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    sources: SourcesConfig = field(default_factory=SourcesConfig)
    streams: StreamLimits = field(default_factory=StreamLimits)
    overload: OverloadConfig = field(default_factory=OverloadConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    admin_listen: AdminListenConfig = field(default_factory=AdminListenConfig)
    protects_figures: bool = False
    endpoint_histograms: bool = False
    ready_requires: tuple[str, ...] = ()
    service: ServiceConfig = field(default_factory=ServiceConfig)
    services: tuple[ServiceSpec, ...] = ()
    routes: tuple[RouteSpec, ...] = ()
    gateway_hosts: tuple[str, ...] = ()
    sharing: SharingConfig = field(default_factory=SharingConfig)
    limit_store: LimitStoreConfig = field(default_factory=LimitStoreConfig)
    cache_store: StoreConfig = field(default_factory=StoreConfig)
    upstreams_file: str | None = None
    watches_files: bool = False

    @property
    def protects_admin(self) -> bool:
        """Whether the pages below /admin need a credential."""
        return self.auth.is_required or self.admin.asks_for_credential

    @property
    def rules(self) -> tuple[frozenset[Kind], ...]:
        """The kinds of credentials that requests for services, routes and pages need; without rules that need none."""
        accesses = [*(each.service.access for each in self.services), *(each.access for each in self.routes)]
        default = default_rule(is_required=self.auth.is_required)
        accepted = [each.accepted(default) for each in (DEFAULT, *filter(None, accesses))]
        accepted += [ANY | {Kind.SESSION}] if self.protects_admin else []
        accepted += [ANY] if self.protects_admin and self.protects_figures else []
        return tuple(each for each in accepted if Kind.NOTHING not in each)

    @property
    def asks_for_tokens(self) -> bool:
        """Whether any request needs a credential."""
        return bool(self.rules)

    def asks_for(self, kind: Kind) -> bool:
        """Whether any request may need a credential of a kind."""
        return any(kind in each for each in self.rules)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of credentials that can be checked. A password is checked at the log-in, and makes a session.

        Raises:
            ValueError: a key of tokens cannot be used.
        """
        tokens = self.auth.tokens.keys or self.key_set.is_on
        configured: dict[Kind, object] = {Kind.JWT: tokens, Kind.KEY: self.auth.keys, Kind.BASIC: self.auth.users}
        configured[Kind.SESSION] = self.admin.password
        configured[Kind.MTLS] = self.listen.tls.client_ca
        return frozenset(kind for kind, is_set in configured.items() if is_set)

    @property
    def reads_tokens(self) -> bool:
        """Whether requests are searched for credentials: a credential is checked or hidden, or fields of claims are
        removed."""
        auth = self.auth
        return self.asks_for_tokens or auth != AuthConfig(tokens=auth.tokens, keys=auth.keys, users=auth.users)

    @property
    def has_tls_endpoints(self) -> bool:
        """Whether the configuration has endpoints of TLS, by base URL or by a source."""
        return bool(self.upstream_tls)

    @property
    def upstream_tls(self) -> frozenset[UpstreamTLSConfig]:
        """How TLS is spoken to the endpoints of TLS; see has_tls_endpoints."""
        return frozenset(each.service.connection.tls for each in self.services if each.has_tls_endpoints)

    @property
    def serves_tls(self) -> bool:
        """Whether any listener speaks TLS."""
        listeners = self.listen.listeners
        of_clients = any(each.tls for each in listeners) if listeners else bool(self.listen.tls.certificates)
        return of_clients or (self.admin_listen.tls and self.admin_listen.port is not None)

    @property
    def caches_something(self) -> bool:
        """Whether the responses of any service are cached."""
        return any(each.service.cache.is_on for each in self.services) or self.caches_routes

    @property
    def caches_routes(self) -> bool:
        """Whether any route with a `cache` object caches responses."""
        return any(each.cache is not None and each.cache.is_on for each in self.routes)

    @property
    def limit_store_url(self) -> str:
        """URL of the counters of rate limits; "" for the memory of the process."""
        url = self.limit_store.url or self.sharing.redis_url
        return "" if url.startswith(f"{MEMORY}:") else url

    @property
    def limit_configs(self) -> tuple[LimitConfig, ...]:
        """The limits of all services and routes."""
        of_routes = [each.limits for each in self.routes if each.limits]
        return (self.service.limits, *[each.service.limits for each in self.services], *of_routes)

    @property
    def limit_rules(self) -> tuple[Rule, ...]:
        """The rules of all rate limits."""
        return tuple(rule for each in self.limit_configs for rule in each.rules)

    @property
    def cache_store_url(self) -> str:
        """URL of the Redis that stored responses and purges are shared over; "" for none."""
        url = self.cache_store.url or self.sharing.redis_url
        return "" if url.startswith(f"{MEMORY}:") or not self.caches_something else url

    @property
    def shares_revocations(self) -> bool:
        """Whether revocations are shared over Redis."""
        return bool(self.sharing.redis_url) and self.asks_for_tokens

    @property
    def shares_something(self) -> bool:
        """Whether anything but rate limits is shared over Redis."""
        return self.shares_revocations or self.caches_something or bool(self.sharing.endpoints_secret)

    def of(self, spec: ServiceSpec) -> "Settings":
        """The settings with the config of a service."""
        return replace(self, service=spec.service)


C = TypeVar("C", bound="DataclassInstance")


def assemble(config: C, values: Mapping[str, Any]) -> C:
    """A copy of nested dataclasses with other values.

    Args:
        values: by path of the field: "service.breaker.failures".
    """
    fields: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        if rest:
            nested.setdefault(name, {})[rest] = value
        else:
            fields[name] = value
    fields |= {name: assemble(getattr(config, name), inner) for name, inner in nested.items()}
    return replace(config, **fields)
