"""Configurations of Envoy, Traefik and Caddy.

Each proxy uses one worker thread and writes no access log. Timeouts of streams are off, and the limits of connections
are above any load's. All three read JSON: Traefik's files may be YAML, which includes JSON.
"""

from typing import Any

_FILTERS = "type.googleapis.com/envoy.extensions.filters"
_MANY = 100_000  # limit of connections and requests, above any load's


def envoy(host: str, port: int, services: dict[str, int], prefix: str) -> dict[str, Any]:
    """Envoy's bootstrap.

    Args:
        services: ports of "svc", the service of requests, and of "streams", the service of streams.
        prefix: prefix of the paths of "svc", removed from forwarded targets.
    """
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "entrance",
        "stream_idle_timeout": "0s",
        "use_remote_address": True,  # adds X-Forwarded-For
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        _envoy_route(prefix, "svc", "/"),
                        _envoy_route("/sse/streams/", "streams", "/"),
                        _envoy_route("/ws/streams", "streams"),
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"}}
        ],
    }
    listener = {
        "name": "entrance",
        "address": _envoy_address(host, port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    clusters = [_envoy_cluster(name, host, at) for name, at in services.items()]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _envoy_address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _envoy_route(prefix: str, cluster: str, rewrite: str | None = None) -> dict[str, Any]:
    rewriting = {"prefix_rewrite": rewrite} if rewrite else {}
    return {
        "match": {"prefix": prefix},
        "route": {"cluster": cluster, "timeout": "0s", "idle_timeout": "0s", **rewriting},
    }


def _envoy_cluster(name: str, host: str, port: int) -> dict[str, Any]:
    limits = {"max_connections": _MANY, "max_pending_requests": _MANY, "max_requests": _MANY}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _envoy_address(host, port)}}]}],
        },
        "circuit_breakers": {"thresholds": [limits]},
    }


def traefik(host: str, services: dict[str, int], prefix: str) -> dict[str, Any]:
    """Traefik's dynamic configuration; the port to listen on is an argument of the program."""

    def router(path: str, service: str, middleware: str = "") -> dict[str, Any]:
        rule = {"rule": f"PathPrefix(`{path}`)", "service": service}
        return rule | ({"middlewares": [middleware]} if middleware else {})

    return {
        "http": {
            "routers": {
                "svc": router(prefix, "svc", "svc"),
                "events": router("/sse/streams/", "streams", "events"),
                "sockets": router("/ws/streams", "streams"),
            },
            "middlewares": {
                "svc": {"stripPrefix": {"prefixes": [prefix.rstrip("/")]}},
                "events": {"stripPrefix": {"prefixes": ["/sse/streams"]}},
            },
            "services": {
                name: {"loadBalancer": {"servers": [{"url": f"http://{host}:{port}"}]}}
                for name, port in services.items()
            },
        }
    }


def caddy(host: str, port: int, services: dict[str, int], prefix: str, kept_alive: int) -> dict[str, Any]:
    """Caddy's configuration."""

    def route(path: str, service: str, cut: str = "") -> dict[str, Any]:
        proxy = {
            "handler": "reverse_proxy",
            "upstreams": [{"dial": f"{host}:{services[service]}"}],
            "transport": {
                "protocol": "http",
                "compression": False,
                "keep_alive": {"max_idle_conns_per_host": kept_alive},
            },
        }
        rewriting = [{"handler": "rewrite", "strip_path_prefix": cut}] if cut else []
        return {"match": [{"path": [path]}], "handle": [*rewriting, proxy], "terminal": True}

    server = {
        "listen": [f"{host}:{port}"],
        "automatic_https": {"disable": True},
        "protocols": ["h1"],
        "routes": [
            route(f"{prefix}*", "svc", prefix.rstrip("/")),
            route("/sse/streams/*", "streams", "/sse/streams"),
            route("/ws/streams*", "streams"),
        ],
    }
    return {
        "admin": {"disabled": True},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {"http": {"servers": {"entrance": server}}},
    }
