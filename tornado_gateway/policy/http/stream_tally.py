"""Numbers of open streams of all workers of a gateway, so that limits of streams hold for the whole; see tally.py."""

from tornado_gateway.policy.tally import Others

Name = tuple[str, str]

TOTAL: Name = "", ""  # the name of all streams together


class OthersStreams:
    """The numbers of streams of other workers, and where this worker tells its own."""

    def __init__(self, others: Others) -> None:
        self._others = others

    def count(self, service: str, client: str, change: int) -> None:
        """Tell others of a stream that begins or ends here."""
        for each in _names(service, client):
            self._others.add(each, change)

    def numbers(self, service: str, client: str) -> tuple[int, int, int]:
        """The streams of others: in all, to the service, and of the client."""
        total, of_service, of_client = map(self._others.number, _names(service, client))
        return total, of_service, of_client


def _names(service: str, client: str) -> tuple[Name, Name, Name]:
    return TOTAL, ("service", service), ("client", client)
