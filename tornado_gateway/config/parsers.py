"""How a value is written in a variable of the environment. The services of UPSTREAMS are in services.py.

A `Syntax` reads the text of a variable into the value that a config wants (0 may stand for math.inf, a word for True),
and writes that value as text again.
"""

import ipaddress
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Generic, TypeVar

from tornado_gateway.adapters.compression import LIBRARIES
from tornado_gateway.adapters.compression import is_installed as has_coding
from tornado_gateway.adapters.redis_cluster import SCHEMES as CLUSTERS
from tornado_gateway.adapters.redis_connection import SCHEMES, SENTINEL, is_installed
from tornado_gateway.adapters.redis_limits import MEMORY
from tornado_gateway.adapters.redis_url import split_url
from tornado_gateway.config.problems import MASK, ConfigurationError, Invalid, Problem, shown
from tornado_gateway.policy.http.address import Network, network
from tornado_gateway.policy.http.authority import parse_origin
from tornado_gateway.policy.http.compression import CODINGS, joined_codings
from tornado_gateway.policy.http.cors import ANY
from tornado_gateway.policy.http.handshake import ANY_ORIGIN, SAME_ORIGIN
from tornado_gateway.policy.http.target import is_address
from tornado_gateway.policy.limits.quota import LimitKey, PolicyError, Quota, parse_quotas
from tornado_gateway.policy.upstream.affinity import HashKey
from tornado_gateway.policy.upstream.retry import ALL, CONNECT, RESET
from tornado_gateway.upkeep.process import cores

DAY = 86_400_000  # milliseconds
PEBIBYTE = 2**50
MILLION = 1_000_000
MOST_WORKERS = 64
LONGEST_SOCKET = 103  # bytes of sun_path: 107 on Linux, 103 on macOS
EVERY_ADDRESS = "*"  # of IPv4 and of IPv6, to listen on

_WHOLE = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_PARAMETER = re.compile(r"[!$-%'-+\--;>-~]+")  # no separator of parameters: & = # or a comma
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
HOST_OF_A_ROUTE = "a host name without port, or *. and a host name"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_OF_A_ROUTE = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\]")
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Syntax(Generic[T]):
    """How a value is written.

    Attributes:
        parse: from text, never "", to the value. Raises Invalid, or a ConfigurationError with a problem for each wrong
            part, whose variable is the place of the part: "[0]".
        text: from a value to text that `parse` reads as the same value.
        is_list: whether the text is a list with commas; a JSON array may stand for such a text.
    """

    parse: Callable[[str], T]
    text: Callable[[T], str] = str
    is_list: bool = False


def joined(items: Iterable[object]) -> str:
    return ",".join(map(str, items))


# Numbers


def whole(low: int, high: int, unit: str = "", *, zero: float = 0) -> Syntax[float]:
    """A whole number.

    Args:
        zero: value that the number 0 stands for.

    >>> import math
    >>> whole(0, 9).parse("9"), whole(0, 9, zero=math.inf).parse("0"), whole(0, 9, zero=math.inf).text(math.inf)
    (9, inf, '0')
    """
    allowed = f"{low} to {high}{unit}"

    def parse(text: str) -> float:
        if not _WHOLE.fullmatch(text):
            raise Invalid("is not a whole number", allowed)
        return int(_within(low, high, text, allowed)) or zero

    return Syntax(parse, lambda value: "0" if value == zero else str(value))


def size(low: int, *, zero: float = 0) -> Syntax[float]:
    """A number of bytes."""
    return whole(low, PEBIBYTE, " bytes, without a suffix", zero=zero)


def percent(low: int, high: int) -> Syntax[float]:
    """A share, written in whole percent.

    >>> percent(0, 100).parse("20"), percent(0, 100).text(0.29)
    (0.2, '29')
    """
    number = whole(low, high)
    return Syntax(lambda text: number.parse(text) / 100, lambda share: f"{share * 100:.0f}")


def milliseconds(low: int, *, zero: float = 0.0) -> Syntax[float]:
    """Seconds, written in milliseconds.

    Args:
        zero: value that the number 0 stands for.

    >>> import math
    >>> milliseconds(0).parse("1500"), milliseconds(0, zero=math.inf).text(math.inf), milliseconds(0).text(0.0005)
    (1.5, '0', '0.5')
    """
    allowed = f"{low} to {DAY} milliseconds"

    def parse(text: str) -> float:
        if not _DECIMAL.fullmatch(text):
            raise Invalid("is not a number of milliseconds", allowed)
        return float(_within(low, DAY, text, allowed)) / 1000 or zero

    def text_of(seconds: float) -> str:
        return "0" if seconds == zero else f"{seconds * 1000:.6f}".rstrip("0").rstrip(".")

    return Syntax(parse, text_of)


def _within(low: int, high: int, text: str, allowed: str) -> Decimal:
    number = Decimal(text)  # exact at any length, unlike float(); int() refuses more than 4,300 digits
    if not low <= number <= high:
        raise Invalid("is out of range", allowed)
    return number


# Words


def choice(values: Mapping[str, T]) -> Syntax[T]:
    """A word out of several, each with a value.

    >>> choice({"pass": False, "rewrite": True}).parse("rewrite"), choice({"pass": False}).text(False)
    (True, 'pass')
    """

    def parse(text: str) -> T:
        if text not in values:
            raise Invalid("is unknown", ", ".join(values))
        return values[text]

    return Syntax(parse, lambda value: next((word for word, each in values.items() if each == value), ""))


def one_of(*names: str) -> Syntax[str]:
    """A word out of several; the value is the word."""
    return choice({name: name for name in names})


def several_of(*names: str) -> Syntax[tuple[str, ...]]:
    """Words out of several, separated by commas."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(filter(None, map(str.strip, text.split(","))))
        if not found or not set(found) <= set(names):
            raise Invalid("has an unknown word in it", f"{', '.join(names)}; separated by commas")
        return found

    return Syntax(parse, joined, is_list=True)


E = TypeVar("E", bound=Enum)


def member_of(kind: type[E]) -> Syntax[E]:
    """The value of a member of an enumeration."""
    return choice({str(each.value): each for each in kind})


def _parse_flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise Invalid("is neither true nor false", ", ".join(_FLAGS))
    return _FLAGS[text.lower()]


flag = Syntax(_parse_flag, lambda value: str(value).lower())


def _parse_workers(text: str) -> int:
    return min(cores(), MOST_WORKERS) if text == "auto" else int(whole(1, MOST_WORKERS).parse(text))


workers = Syntax(_parse_workers)


def _parse_hosts(text: str) -> tuple[str, ...]:
    found = tuple(filter(None, map(str.strip, text.split(","))))
    allowed = "addresses such as 0.0.0.0 or ::1 and host names, separated by commas; or * for every address"
    if not found or not all(each == EVERY_ADDRESS or _is_host(each) for each in found):
        raise Invalid("is neither an address nor a host name", allowed)
    if len(set(found)) < len(found) or (EVERY_ADDRESS in found and len(found) > 1):
        raise Invalid("names an address twice, or another one beside *", "each address once; or * alone")
    return found


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST_NAME.fullmatch(text) is not None
    return True


hosts = Syntax(_parse_hosts, joined)  # to listen on: each once, or EVERY_ADDRESS alone


def parse_host_of_a_route(text: str) -> str:
    """A host of a route in lower case and, if international, as A-labels (RFC 5891).

    Raises:
        Invalid: the text is no host.

    >>> parse_host_of_a_route("Chat.Example.com."), parse_host_of_a_route("*.b\u00fccher.example")
    ('chat.example.com', '*.xn--bcher-kva.example')
    """
    plain = text.lower().removesuffix(".")
    wildcard, name = ("*.", plain[2:]) if plain.startswith("*.") else ("", plain)
    try:
        host = wildcard + (name if name.isascii() else name.encode("idna").decode("ascii"))
    except UnicodeError:
        host = ""
    if not _HOST_OF_A_ROUTE.fullmatch(host):
        raise Invalid("is not a host", HOST_OF_A_ROUTE)
    return host


def _parse_hosts_of_routes(text: str) -> tuple[str, ...]:
    return tuple(parse_host_of_a_route(each) for each in filter(None, map(str.strip, text.split(","))))


hosts_of_routes = Syntax(_parse_hosts_of_routes, joined)


def _parse_token(text: str) -> bytes:
    if not _TOKEN.fullmatch(text):
        raise Invalid("is not a token", "letters, digits and !#$%&'*+-.^_`|~")
    return text.encode("ascii")


token = Syntax(_parse_token, bytes.decode)  # RFC 9110 §5.6.2


def _parse_key_fields(text: str) -> tuple[bytes, ...]:
    """Names of fields, in lower case and each once.

    >>> _parse_key_fields("X-Tenant, x-plan")
    (b'x-tenant', b'x-plan')
    """
    names = [_parse_token(item.strip()).lower() for item in text.split(",") if item.strip()]
    return tuple(dict.fromkeys(names))


key_fields = Syntax(_parse_key_fields, lambda names: joined(name.decode("ascii") for name in names), is_list=True)


def _parse_parameters(text: str) -> tuple[str, ...]:
    """Names of query parameters as a target has the names, each once; or "*" alone."""
    names = tuple(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))
    allowed = "names of query parameters as in a URL, separated by commas; or *"
    if any(not _PARAMETER.fullmatch(each) for each in names):
        raise Invalid("is not a list of query parameters", allowed)
    if "*" in names and len(names) > 1:
        raise Invalid("has a name beside *", allowed)
    return names


parameters = Syntax(_parse_parameters, joined, is_list=True)
key = Syntax(lambda text: text.encode("utf-8", "surrogatepass"), lambda value: value.decode("utf-8", "surrogatepass"))
LONG_KEY = 32  # bytes: as many as HMAC-SHA256 makes (RFC 2104 §3)


def _parse_long_key(text: str) -> bytes:
    value = key.parse(text)
    if len(value) < LONG_KEY:
        raise Invalid("is too short", f"{LONG_KEY} bytes or more")
    return value


long_key = Syntax(_parse_long_key, key.text)
text = Syntax(str)


def _parse_networks(text: str) -> tuple[Network, ...]:
    found: list[Network] = []
    problems: list[Problem] = []
    for index, item in enumerate(text.split(",")):
        given = item.strip()
        try:
            if given:
                found.append(network(given))
        except ValueError as error:
            reason = "has host bits set" if "host bits" in str(error) else "is not an address or a network"
            allowed = "addresses and networks such as 10.0.0.0/8 or ::1, separated by commas"
            problems.append(Problem(f"[{index}]", shown(given), reason, allowed))
    if problems:
        raise ConfigurationError(tuple(problems))
    return tuple(found)


networks = Syntax(_parse_networks, joined)


def _parse_origins(text: str) -> tuple[str, ...]:
    """Origins in the form of browsers (RFC 6454 §6.2), "*" and "same-origin"."""
    given = [item.strip().lower() for item in text.split(",") if item.strip()]
    found = [item if item in (ANY_ORIGIN, SAME_ORIGIN) else parse_origin(item) for item in given]
    allowed = "*, same-origin and origins such as https://app.example.com"
    problems = [
        Problem(f"[{index}]", shown(item), "is not an origin", allowed)
        for index, (item, origin) in enumerate(zip(given, found, strict=True))
        if origin is None
    ]
    if problems:
        raise ConfigurationError(tuple(problems))
    parsed = tuple(origin for origin in found if origin)
    if ANY_ORIGIN in parsed and len(parsed) > 1:
        raise Invalid(f"has {ANY_ORIGIN} beside others, which it makes void", f"{ANY_ORIGIN} alone, or the others")
    return parsed


origins = Syntax(_parse_origins, joined)


def _parse_origins_of_others(text: str) -> tuple[str, ...]:
    found = _parse_origins(text)
    if SAME_ORIGIN in found:
        raise Invalid(
            f"has {SAME_ORIGIN} in it, whose pages need no CORS", "* or origins such as https://app.example.com"
        )
    return found


origins_of_others = Syntax(_parse_origins_of_others, joined, is_list=True)


def _parse_fields(text: str) -> tuple[str, ...]:
    found = _parse_names(text)
    for item in found:
        if not _TOKEN.fullmatch(item):
            raise Invalid(f"has {shown(item)} in it", "names of fields such as ETag, separated by commas")
    return found


field_names = Syntax(_parse_fields, joined, is_list=True)


def _parse_allowed_fields(text: str) -> tuple[str, ...]:
    found = _parse_fields(text)
    if ANY in found and len(found) > 1:
        raise Invalid(f"has {ANY} beside others, which it makes void", f"{ANY} alone, or the others")
    return found


allowed_fields = Syntax(_parse_allowed_fields, joined, is_list=True)


_PATH = re.compile(r"/[!-\"$-~]*")
_STATUSES = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")


def _parse_statuses(text: str) -> frozenset[int]:
    """HTTP statuses, given singly and as ranges.

    >>> sorted(_parse_statuses("200-202,404"))
    [200, 201, 202, 404]
    """
    found: set[int] = set()
    for item in filter(None, map(str.strip, text.split(","))):
        given = _STATUSES.fullmatch(item)
        if not given or (given[2] and given[2] < given[1]):
            raise Invalid(f"has {shown(item)} in it", "statuses and ranges of them such as 200-299,404")
        found.update(range(int(given[1]), int(given[2] or given[1]) + 1))
    return frozenset(found)


def _ranges(numbers: Iterable[int]) -> Iterator[str]:
    """
    >>> list(_ranges([200, 201, 202, 404]))
    ['200-202', '404']
    """
    for _, group in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"


statuses = Syntax(_parse_statuses, lambda value: joined(_ranges(value)), is_list=True)


_RETRY_ON = f"{CONNECT}, {RESET} and statuses such as 503; or off alone"


def _parse_retry_on(text: str) -> tuple[str | int, ...]:
    """Names of failures and statuses; () for "off"."""
    found = tuple(item.strip() for item in text.split(",") if item.strip())
    for item in found:
        if item not in (CONNECT, RESET, "off") and not re.fullmatch("[45][0-9]{2}", item):
            raise Invalid(f"has {shown(item)} in it", _RETRY_ON)
    if "off" in found and len(found) > 1:
        raise Invalid("has off beside what is not off", _RETRY_ON)
    return tuple(int(item) if item.isdecimal() else item for item in found if item != "off")


retry_on = Syntax(_parse_retry_on, lambda value: joined(value) or "off", is_list=True)


def _parse_repeatable(text: str) -> tuple[str, ...]:
    """Methods, or "all". Methods are case-sensitive (RFC 9110 §9.1): no request has a method in small letters."""
    found = tuple(item.strip() for item in text.split(",") if item.strip())
    allowed = f"methods in capitals such as POST,PATCH; or {ALL}"
    for item in found:
        if item != ALL and (not _TOKEN.fullmatch(item) or item != item.upper()):
            raise Invalid(f"has {shown(item)} in it", allowed)
    if ALL in found and len(found) > 1:
        raise Invalid(f"has methods beside {ALL}", allowed)
    return found


repeatable = Syntax(_parse_repeatable, joined, is_list=True)


def _parse_hash_key(text: str) -> HashKey:
    try:
        return HashKey.parse(text)
    except ValueError:
        raise Invalid("is not a key", "client, path, header:<name> or cookie:<name>") from None


hash_key = Syntax(_parse_hash_key)


def _parse_limit_key(text: str) -> LimitKey:
    try:
        return LimitKey.parse(text)
    except ValueError:
        raise Invalid("is not a key", "ip, principal, route or header:<name>") from None


limit_key = Syntax(_parse_limit_key)


def _parse_quotas(text: str) -> tuple[Quota, ...]:
    try:
        return parse_quotas(text)
    except PolicyError as error:
        raise Invalid(
            f"has {shown(error.policy.partition(';')[0])} in it{error.why}",
            "off, or policies such as 100/s,5000/h;burst=20;key=ip",
        ) from None


quotas = Syntax(_parse_quotas, lambda value: joined(value) or "off", is_list=True)


def _store_url(*schemes: str) -> Syntax[str]:
    """The URL of a store of counters."""
    allowed = (
        "memory://, redis://host:6379/0, rediss://host, redis+sentinel://host:26379/name or redis+cluster://host:6379"
    )

    def parse(text: str) -> str:
        url = split_url(text)
        is_local = url.scheme == MEMORY
        if url.scheme not in schemes or is_local == all(url.places) or not text.isprintable():
            raise Invalid("is not the URL of a store", allowed)
        if not url.is_valid:
            raise Invalid("has a wrong host or port", allowed)
        parts = url.first
        if parts.scheme == SENTINEL and not parts.path.strip("/"):
            raise Invalid("does not name the service of the Sentinels", allowed)
        if parts.scheme in CLUSTERS and parts.path.strip("/") not in ("", "0"):
            raise Invalid("names a database, and a cluster has none but 0", allowed)
        if not is_local and not is_installed():
            raise Invalid("needs redis, a library of requirements-extras.txt that is not installed", "memory://")
        return text

    return Syntax(parse)


def _parse_codings(text: str) -> tuple[bytes, ...]:
    """Content codings, each once; "off" for none."""
    names = tuple(
        dict.fromkeys(item.strip().lower().encode("utf-8", "replace") for item in text.split(",") if item.strip())
    )
    if names == (b"off",):
        return ()
    for each in names:
        if each not in CODINGS:
            raise Invalid("is not a list of codings", "off, or of gzip, br and zstd, separated by commas")
        if not has_coding(each):
            library = f"{LIBRARIES[each]}, a library of requirements-extras.txt"
            raise Invalid(f"needs {library} that is not installed", "off or gzip")
    return names


content_codings = Syntax(_parse_codings, joined_codings, is_list=True)

redis_url = _store_url(*SCHEMES)
store_url = _store_url(MEMORY, *SCHEMES)


def _parse_names(text: str) -> tuple[str, ...]:
    """Names of services, or "*"."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


names = Syntax(_parse_names, joined)
word_set = Syntax(lambda text: frozenset(_parse_names(text)), lambda words: joined(sorted(words)), is_list=True)


def _parse_path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise Invalid("is not a path", "a slash, and visible ASCII characters but for #")
    return text


def without_query(path: str) -> str:
    """A path with the query masked: a query may hold a key.

    >>> without_query("/health?key=1"), without_query("/health")
    ('/health?********', '/health')
    """
    return re.sub(r"(?<=\?).+", MASK, path)


path = Syntax(_parse_path, without_query)


def _parse_socket_path(text: str) -> str:
    if not text.startswith("/") or len(text.encode("utf-8", "replace")) > LONGEST_SOCKET or "\0" in text:
        raise Invalid("is no path of a socket", f"an absolute path of at most {LONGEST_SOCKET} bytes")
    return text


socket_path = Syntax(_parse_socket_path)


def _parse_files(text: str) -> tuple[str, ...]:
    """Paths of files, separated by commas; whether they can be used, others say."""
    return tuple(filter(None, map(str.strip, text.split(","))))


files = Syntax(_parse_files, joined)


def _parse_certificates(text: str) -> str:
    try:
        ssl.create_default_context(cafile=_parse_readable_file(text))
    except ssl.SSLError:
        raise Invalid("does not hold certificates", "a PEM file") from None
    return text


certificates = Syntax(_parse_certificates)


def _parse_readable_file(text: str) -> str:
    read_file(text, 1)
    return text


readable_file = Syntax(_parse_readable_file)


_SERVER_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*")


def _parse_server_name(text: str) -> str:
    if not _SERVER_NAME.fullmatch(text) or is_address(text):
        raise Invalid("is not a host name", "a host name such as billing.internal")
    return text


server_name = Syntax(_parse_server_name)


def read_file(path: str, size: int = -1) -> bytes:
    """The first bytes of a file.

    Args:
        size: number of bytes; -1 for all.

    Raises:
        Invalid: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:  # ValueError: a NUL, or a character that no file system can encode
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise Invalid(f"cannot be read ({reason})", "the path of a readable file") from None
