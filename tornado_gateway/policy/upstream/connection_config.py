"""How connections to the endpoints of a service are opened."""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class UpstreamTLSConfig:
    """TLS to the endpoints of a service. Connections of different UpstreamTLSConfig are never exchanged.

    Attributes:
        server_name: sent as SNI, and the name that the certificate must be for; "" for the host of the endpoint.
        certificate: PEM file of the gateway's certificate with its chain, for endpoints that ask for one; None for
            none.
        key: PEM file with the key; None if the key stands beside the certificate.
        ca_file: PEM file of trusted authorities; None for the system's.
        verify: whether an endpoint must have a trusted certificate for its name.
    """

    server_name: str = ""
    certificate: str | None = None
    key: str | None = None
    ca_file: str | None = None
    verify: bool = True

    @property
    def without_name(self) -> "UpstreamTLSConfig":
        """What settings of TLS are made of: services that differ in names alone share the settings."""
        return replace(self, server_name="") if self.server_name else self

    @property
    def has_files(self) -> bool:
        """Whether the settings may change without a change of the configuration."""
        return bool(self.certificate or self.ca_file)


AS_HOST = UpstreamTLSConfig()  # the defaults


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """Connections to the endpoints of a service.

    Attributes:
        timeout: seconds for the look-up, the connection and TLS together; > 0.
        tls: what endpoints of TLS are shown, and must show.
    """

    timeout: float = 5.0
    tls: UpstreamTLSConfig = field(default_factory=UpstreamTLSConfig)
