"""From variables of the environment to `Settings`. All that is wrong is reported at once.

The rules between variables are here: services come from one of two variables, authentication needs a key, readiness may
require only known services.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tornado_gateway.adapters.authentication import AuthConfig
from tornado_gateway.config.documents import member
from tornado_gateway.config.problems import ConfigurationError, Invalid, Problem, shown
from tornado_gateway.config.routes import GivenRoute
from tornado_gateway.config.services import MAP_OF_SERVICES, GivenService
from tornado_gateway.config.settings import ServiceSpec, Settings, assemble
from tornado_gateway.config.tls import check_tls, check_upstream_tls, load_certificates
from tornado_gateway.config.variables import OF_LIMITS, OF_ROUTES, OF_SERVICES, VARIABLES
from tornado_gateway.policy.access import Kind, default_rule, strictest
from tornado_gateway.policy.http.credentials import API_KEY, Source, Where
from tornado_gateway.policy.routing import OWN_SEGMENTS, RouteSpec, hosts_for

_FETCHED_KEYS = ("JWKS_URL", "OIDC_ISSUER")
_OTHER_KEYS = frozenset(("JWT_SECRETS", "JWT_PUBLIC_KEY", *_FETCHED_KEYS, "API_KEYS", "BASIC_USERS", "TLS_CLIENT_CA"))
# What a kind of credentials needs: the problem of a service that asks for a credential nobody can have.
_NOT_SET = "is not set, but a service, a route, ADMIN_SCOPE or METRICS_AUTH asks for"
_NEEDS = {
    Kind.JWT: Problem("JWT_SECRET", "", f"{_NOT_SET} a token", "32 bytes or more; or another key"),
    Kind.KEY: Problem("API_KEYS", "", f"{_NOT_SET} an API key", "names and hashes of keys"),
    Kind.BASIC: Problem("BASIC_USERS", "", f"{_NOT_SET} a password", "names and hashes of passwords"),
    Kind.MTLS: Problem("TLS_CLIENT_CA", "", f"{_NOT_SET} a client certificate", "a PEM file of authorities"),
}
SHORTEST_KEY = 32  # characters; HS256 wants 256 bits (RFC 7518 §3.2)


def load_settings(env: Mapping[str, str]) -> Settings:
    """Read all variables. An empty variable counts as not set. Only files that a variable names are read.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    values, problems = _parse(env)
    if values.get("GATEWAY_ENV") == "production":
        values |= {each.name: each.in_production for each in VARIABLES if each.in_production and not each.find(env)[1]}
    given: tuple[GivenService, ...] = values.pop("UPSTREAMS_FILE", ())
    given = values.pop("UPSTREAMS", given)
    routes: tuple[GivenRoute, ...] = values.pop("ROUTES", ())
    problems += [
        *_check_upstreams(env), *_check_secret(values), *_check_required(values, given),
        *_check_routes(values, routes, given), *_check_shared(values),
    ]  # fmt: skip
    if problems:
        raise ConfigurationError(tuple(problems))
    if "OIDC_ISSUER" in values:
        values.setdefault("JWT_ISSUER", values["OIDC_ISSUER"])
    settings = assemble(Settings(), _by_field(values))
    services = tuple(_specify(settings, each) for each in given)
    own = tuple(_specify_route(each, services) for each in routes)
    settings = replace(
        settings,
        services=tuple(_protect(each, own, settings.auth) for each in services),
        routes=own,
        upstreams_file=env.get("UPSTREAMS_FILE") or None,
    )
    _check_keys(settings)
    _check_cors(settings)
    _check_tls(settings)
    return settings


def _parse(env: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """The values of all valid variables that are set, by name, and the problems of the others."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for variable in VARIABLES:
        name, text = variable.find(env)
        try:
            if text:
                values[variable.name] = variable.syntax.parse(text)
        except Invalid as error:
            problems.append(Problem(name, shown(text, secret=variable.secret), error.reason, error.allowed))
        except ConfigurationError as error:
            problems += [replace(problem, variable=f"{name}{problem.variable}") for problem in error.problems]
    return values, problems


def _by_field(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of variables, by path of the fields that the variables fill."""
    return {path: values[each.name] for each in VARIABLES if each.name in values for path in each.fills}


def _specify(settings: Settings, given: GivenService) -> ServiceSpec:
    """A service with the settings of all services, but for its own values."""
    spec = ServiceSpec(
        name=given.name,
        endpoints=given.endpoints,
        service=settings.service,
        given=given.given,
    )
    values = {path: value for key, value in given.values.items() for path in OF_SERVICES[key].fills_spec}
    return assemble(spec, values | _own_counters(values, f"service {given.name}", given.name))


def _own_counters(values: Mapping[str, Any], group: str, label: str) -> dict[str, Any]:
    """What gives a service or a route with own values for rate limits counters of its own."""
    is_own = any(path.startswith(OF_LIMITS) for path in values)
    return {f"{OF_LIMITS}group": group, f"{OF_LIMITS}label": label} if is_own else {}


def _specify_route(given: GivenRoute, services: Iterable[ServiceSpec]) -> RouteSpec:
    """A route: the values of the service, replaced by the values that the route itself gives."""
    (service,) = (each for each in services if each.name == given.spec.service)
    values = {OF_ROUTES[key].path: value for key, value in given.values.items()}
    label = given.spec.label
    counters = _own_counters(values, f"route {label}", label)
    if counters:
        counters[f"{OF_LIMITS}route"] = label
    own = assemble(service, values | counters).service
    is_as_service = own.mount == service.service.mount
    return replace(
        given.spec,
        config=None if is_as_service else own.mount,
        access=own.access,
        limits=own.limits,
        cors=None if own.cors == service.service.cors else own.cors,
        cache=None if own.cache == service.service.cache else own.cache,
    )


def _protect(service: ServiceSpec, routes: Iterable[RouteSpec], auth: AuthConfig) -> ServiceSpec:
    """A service whose standard routes ask of clients whatever a route to the service asks.

    Otherwise /api/<service> would lead past what protects a route.
    """
    to_service = [each for each in routes if each.service == service.name]
    asked = [each.access for each in to_service if each.access]
    if asked:
        access = strictest([service.service.access, *asked], default_rule(is_required=auth.is_required))
        service = assemble(service, {"service.access": access})
    limits = tuple(each.limits for each in to_service if each.limits and each.limits.route)
    return assemble(service, {f"{OF_LIMITS}also": limits}) if limits else service


def _check_keys(settings: Settings) -> None:
    """
    Raises:
        ConfigurationError: a key of tokens cannot be used, or a service or route asks for a credential of kinds that
            cannot be checked.
    """
    if not settings.reads_tokens:
        return
    try:
        kinds = settings.kinds
    except ValueError as error:
        weak = replace(_NEEDS[Kind.JWT], given=shown("", secret=True), reason=str(error))
        raise ConfigurationError((weak,)) from None
    unmet = [rule for rule in settings.rules if rule and not rule & kinds]
    missing = {next(kind for kind in _NEEDS if kind in rule) for rule in unmet}
    if missing:
        raise ConfigurationError(tuple(problem for kind, problem in _NEEDS.items() if kind in missing))


def _check_tls(settings: Settings) -> None:
    """
    Raises:
        ConfigurationError: certificates are missing, or cannot be used.
    """
    problems = (*check_tls(settings), *check_upstream_tls(settings))
    if problems:
        raise ConfigurationError(problems)
    load_certificates(settings)


def _check_cors(settings: Settings) -> None:
    """
    Raises:
        ConfigurationError: pages of every origin may send cookies. No browser allows that (Fetch §3.3.5), and an
            operator who wants that would open what the cookies protect to every page.
    """
    common = settings.service.cors
    places = [("", common)]
    places += [(f"UPSTREAMS{member(each.name)}.", each.service.cors) for each in settings.services]
    places += [(f"ROUTES[{index}].", each.cors) for index, each in enumerate(settings.routes) if each.cors]
    problems = [
        Problem(
            f"{place}corsAllowCredentials" if place else "CORS_ALLOW_CREDENTIALS", shown("true"),
            "is true, but CORS_ORIGINS is *", "false, or a list of origins in CORS_ORIGINS",
        )
        for place, cors in places
        if cors.answers and cors.is_for_all and cors.allows_credentials and (cors is not common or not place)
    ]  # fmt: skip
    if problems:
        raise ConfigurationError(tuple(problems))


def _check_upstreams(env: Mapping[str, str]) -> Iterator[Problem]:
    given, file = env.get("UPSTREAMS"), env.get("UPSTREAMS_FILE")
    if given and file:
        yield Problem("UPSTREAMS_FILE", shown(file), "is set, and so is UPSTREAMS", "one of the two")
    if not given and not file:
        yield Problem("UPSTREAMS", "", "is not set", MAP_OF_SERVICES)


def _check_required(values: Mapping[str, Any], given: Iterable[GivenService]) -> Iterator[Problem]:
    known = [service.name for service in given]
    for name in values.get("READY_REQUIRES", ()):
        if known and name not in (*known, "*"):
            yield Problem("READY_REQUIRES", shown(name), "is not a service", ", ".join([*known, "*"]))


def _check_routes(
    values: Mapping[str, Any], routes: Iterable[GivenRoute], given: Iterable[GivenService]
) -> Iterator[Problem]:
    known = [service.name for service in given]
    for index, route in enumerate(routes):
        spec = route.spec
        if known and spec.service not in known:
            yield Problem(f"ROUTES[{index}].service", shown(spec.service), "is not a service", ", ".join(known))
        keeps = not set(hosts_for(spec.host)).isdisjoint(values.get("GATEWAY_HOSTS", ()))
        if keeps and spec.segment in OWN_SEGMENTS:
            reason = f"is a path of the gateway's own, which {spec.host} keeps by GATEWAY_HOSTS"
            yield Problem(f"ROUTES[{index}].path", shown(spec.path), reason, "another first segment")


def _check_shared(values: Mapping[str, Any]) -> Iterator[Problem]:
    name = "SHARED_ENDPOINTS_SECRET"
    if name in values and not values.get("REDIS_URL"):
        yield Problem(name, shown("", secret=True), "is set, but REDIS_URL is not", "with REDIS_URL, or unset")


def _check_secret(values: Mapping[str, Any]) -> Iterator[Problem]:
    for name in _FETCHED_KEYS:
        if name in values and not values.get("JWT_AUDIENCE"):  # an issuer signs tokens for other services, too
            yield Problem("JWT_AUDIENCE", "", f"is not set, but {name} is", "the audience of tokens for this gateway")
    if "API_KEYS" in values and Source(Where.HEADER, API_KEY) in values.get("AUTH_TOKEN_SOURCES", ()):
        yield Problem("AUTH_TOKEN_SOURCES", "", "names X-API-Key, which holds a key of API_KEYS", "another field")
    key = values.get("JWT_SECRET", "")
    if values.get("AUTH_REQUIRED") and len(key) < SHORTEST_KEY and (key or not _OTHER_KEYS & values.keys()):
        reason = (
            "is too short for AUTH_REQUIRED"
            if key
            else "is not set, but AUTH_REQUIRED is true (the default in production)"
        )
        allowed = f"{SHORTEST_KEY} characters or more"
        yield Problem("JWT_SECRET", shown(key, secret=True) if key else "", reason, allowed)
