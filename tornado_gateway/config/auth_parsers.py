"""The syntax of the variables of authentication."""

import re
from collections.abc import Callable, Iterable

from tornado_gateway.adapters import passwords
from tornado_gateway.adapters.signing_keys import of_pem, of_secret
from tornado_gateway.config.parsers import Syntax, joined, read_file
from tornado_gateway.config.problems import MASK, ConfigurationError, Invalid, Problem
from tornado_gateway.policy.hashes import NamedHash, check_key_hash, check_password_hash, parse
from tornado_gateway.policy.http.cookies import is_session_name
from tornado_gateway.policy.http.credentials import ACCESS_TOKEN, TICKET, Source, Where
from tornado_gateway.policy.http.headers import REQUEST_FIELDS
from tornado_gateway.policy.http.target import is_trustworthy

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_SOURCES = (
    "header, header:<field>, cookie:<name>, query, query:<name>, subprotocol, ticket, ticket:<name>; "
    "each once, and each parameter of the query once"
)
_PLAIN_NAMES = {"header": "authorization", "query": ACCESS_TOKEN, "subprotocol": "", "ticket": TICKET}
_LACKS_ARGON2 = "needs argon2-cffi, a library of requirements-extras.txt that is not installed"
_CLAIMS = "claims such as tenant, or role=admin, separated by commas; each once"
_FIELDS = (
    "pairs such as sub:X-User-Id, separated by commas; each field once, and no field that the gateway writes itself"
)
_PEM_BEGINS = "-----BEGIN "
_NAMED_HASHES = "name:hash or name:hash:scope,scope, separated by blanks"
_KEYS = f"{_NAMED_HASHES}, each hash once, as python -m tornado_gateway hash key writes the items"
_OPERATOR = "admin"  # the name of whoever knows the operators' password, if ADMIN_PASSWORD_HASH has no name
_PASSWORD = "name:hash as python -m tornado_gateway hash password writes the item, or the hash alone"  # noqa: S105
_USERS = f"{_NAMED_HASHES}, each name once, as python -m tornado_gateway hash password writes the items"


def split(text: str) -> list[str]:
    """The items of a list, separated by commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _parse_secrets(text: str) -> tuple[str, ...]:
    found = tuple(split(text))
    for place, each in enumerate(found, start=1):
        try:
            of_secret(each)
        except ValueError as error:
            raise Invalid(f"has a secret (number {place}) that {error}", "secrets of 32 bytes or more") from None
    return found


secrets = Syntax(_parse_secrets, joined)


def _parse_public_keys(text: str) -> bytes:
    pem = text.replace("\\n", "\n").encode() if text.startswith(_PEM_BEGINS) else read_file(text)
    try:
        of_pem(pem)
    except ValueError as error:
        raise Invalid(str(error), "PEM text of public keys, or the path of a file with such text") from None
    return pem


public_keys = Syntax(_parse_public_keys, lambda pem: pem.decode("ascii", "replace"))


def _parse_key_url(text: str) -> str:
    if not is_trustworthy(text):
        raise Invalid("is neither https nor on loopback", "a URL such as https://id.example.com/keys")
    return text


key_url = Syntax(_parse_key_url, str)


def _parse_required_claims(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, mark, value in (item.partition("=") for item in split(text)):
        if not name or name in found or (mark and not value):
            raise Invalid("is not a list of claims", _CLAIMS)
        found[name] = value
    return found


def _claims_text(claims: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" if value else name for name, value in claims.items())


required_claims = Syntax(_parse_required_claims, _claims_text)


def _parse_token_sources(text: str) -> tuple[Source, ...]:
    found = tuple(map(_source, split(text)))
    parameters = [each.name for each in found if each.where in (Where.QUERY, Where.TICKET)]
    has_tickets_twice = sum(each.where is Where.TICKET for each in found) > 1
    if not found or has_tickets_twice or len(set(found)) < len(found) or len(set(parameters)) < len(parameters):
        raise Invalid("is not a list of sources", _SOURCES)
    return found


def _source(text: str) -> Source:
    kind, mark, name = text.partition(":")
    is_known = kind in (each.value for each in Where) and (kind != "subprotocol" or not mark)
    name = name if mark else _PLAIN_NAMES.get(kind, "")
    if not is_known or (kind != "subprotocol" and not _TOKEN.fullmatch(name)):
        raise Invalid("has an unknown source in it", _SOURCES)
    if kind == "cookie" and is_session_name(name.encode("ascii")):
        raise Invalid(f"has the cookie of operators' sessions in it, {name}", "the name of another cookie")
    return Source(Where(kind), (name.lower() if kind == "header" else name).encode("ascii"))


def _sources_text(sources: tuple[Source, ...]) -> str:
    return ",".join(_source_text(each) for each in sources)


def _source_text(source: Source) -> str:
    name = source.name.decode("ascii")
    where = source.where.value
    return where if name == _PLAIN_NAMES.get(where) else f"{where}:{name}"


token_sources = Syntax(_parse_token_sources, _sources_text)


def _parse_claim_fields(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(item.partition(":")[::2]) for item in split(text)]
    fields = [field for _, field in pairs]
    for claim, field in pairs:
        is_own = REQUEST_FIELDS.knows(field.lower().encode("ascii", "replace")) and field.lower() not in _USER_FIELDS
        if not claim or not _TOKEN.fullmatch(field) or "_" in field or is_own:
            raise Invalid("is not a list of claims and fields", _FIELDS)
    if len({field.lower() for field in fields}) < len(fields):
        raise Invalid("names a field twice", _FIELDS)
    return tuple((claim, field) for claim, field in pairs)


# Fields that a claim may fill although the gateway protects the names: the fields are there to name the user.
_USER_FIELDS = ("remote-user", "x-user-id")

claim_fields = Syntax(_parse_claim_fields, lambda pairs: ",".join(":".join(pair) for pair in pairs))


def _named_hashes(
    text: str, check: Callable[[str], None], unique: Callable[[NamedHash], str], allowed: str
) -> tuple[NamedHash, ...]:
    """The items of a list; each problem names the place of the item, and shows none of the text."""
    found: list[NamedHash] = []
    problems: list[Problem] = []
    for place, item in enumerate(text.split()):
        try:
            found.append(parse(item, check))
        except ValueError as error:
            problems.append(Problem(f"[{place}]", MASK, str(error), allowed))
    if problems:
        raise ConfigurationError(tuple(problems))
    if not found or len(set(map(unique, found))) < len(found):
        raise Invalid("is empty, or has a name or a hash twice", allowed)
    return tuple(found)


def _parse_api_keys(text: str) -> tuple[NamedHash, ...]:
    return _named_hashes(text, check_key_hash, lambda each: each.hash, _KEYS)


def _parse_users(text: str) -> tuple[NamedHash, ...]:
    found = _named_hashes(text, check_password_hash, lambda each: each.name, _USERS)
    if not passwords.is_installed():
        raise Invalid(_LACKS_ARGON2, "no users without the library")
    return found


def _named_hashes_text(items: Iterable[NamedHash]) -> str:
    return " ".join(map(str, items))


def _parse_password(text: str) -> NamedHash:
    try:
        found = parse(f"{_OPERATOR}:{text}" if text.startswith("$") else text, check_password_hash)
    except ValueError as error:
        raise Invalid(str(error), _PASSWORD) from None
    if found.scopes:
        raise Invalid("has scopes: whoever knows the password may do everything", _PASSWORD)
    if not passwords.is_installed():
        raise Invalid(_LACKS_ARGON2, "no password without the library")
    return found


api_keys = Syntax(_parse_api_keys, _named_hashes_text)
users = Syntax(_parse_users, _named_hashes_text)
password = Syntax(_parse_password)
