"""The content of resolv.conf: name servers, search domains, timeouts.

Source: resolv.conf(5). As an extension, a `nameserver` may have a port: `127.0.0.1:5353` or `[::1]:5353`. Unknown and
malformed lines are ignored, as by the C library.
"""

import ipaddress
import re
from dataclasses import dataclass, replace

_WITH_PORT = re.compile(r"(?:\[([^]]*)\]|([0-9.]+)):([0-9]{1,5})")
_NUMBER = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The options that the gateway's resolver uses.

    Attributes:
        servers: addresses, some with a port; the next server is asked if a server does not answer.
        search: domains in which a name with fewer dots than `ndots` is looked up first; None without such a line.
        ndots: 0 to 15.
        timeout: seconds to wait for a server's first answer, 1 to 30; None for the resolver's default.
        attempts: queries to each server, 1 to 5; None for the resolver's default.
        rotates: whether queries rotate among the servers.
        uses_tcp: whether the first query already uses TCP.
    """

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] | None = None
    ndots: int = 1
    timeout: int | None = None
    attempts: int | None = None
    rotates: bool = False
    uses_tcp: bool = False


def parse_resolv_conf(text: str) -> ResolvConf:
    """Parse the text of resolv.conf.

    >>> parse_resolv_conf("nameserver 10.0.0.2 # old\\nsearch a.test b.test\\noptions ndots:5 rotate").search
    ('a.test', 'b.test')
    """
    conf = ResolvConf()
    for line in text.splitlines():
        keyword, *words = re.split("[#;]", line, maxsplit=1)[0].split() or [""]
        if keyword == "nameserver" and words and (server := _server(words[0])):
            conf = replace(conf, servers=(*conf.servers, server))
        elif keyword in ("search", "domain"):  # the last line counts
            conf = replace(conf, search=tuple(each for each in words if each.isascii() and each != "."))
        elif keyword == "options":
            conf = _with_options(conf, words)
    return conf


def _server(text: str) -> str | None:
    given = _WITH_PORT.fullmatch(text)
    address = (given[1] or given[2]) if given else text
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return None
    return text if text.isascii() and (given is None or 0 < int(given[3]) < 65536) else None


def _with_options(conf: ResolvConf, options: list[str]) -> ResolvConf:
    for option in options:
        name, _, text = option.partition(":")
        number = int(text) if _NUMBER.fullmatch(text) else None
        if name == "ndots" and number is not None:
            conf = replace(conf, ndots=min(number, 15))
        elif name == "timeout" and number:
            conf = replace(conf, timeout=min(number, 30))
        elif name == "attempts" and number:
            conf = replace(conf, attempts=min(number, 5))
        elif name == "rotate":
            conf = replace(conf, rotates=True)
        elif name == "use-vc":
            conf = replace(conf, uses_tcp=True)
    return conf
