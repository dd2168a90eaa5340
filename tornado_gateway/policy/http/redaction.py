"""What logs hide: the values of parameters and fields by name, and signed tokens wherever they stand.

    GET /api/a/x?page=2&access_token=eyJh...   ──►   path /api/a/x   query page=2&access_token=***

A query is shown only if asked for. A parameter is hidden if a configuration names the parameter, if the gateway reads
credentials from the parameter, or if the name says that the value is a secret. Names are compared as a service reads
the names: decoded, without regard to case.

Sources: RFC 6750 §2.3 (access_token), RFC 6749 §4.1.2 (code), RFC 7519 §3 (the form of a JWT).
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_plus

HIDDEN = "***"
EVERY_PARAMETER = "*"

# Parts of names, without marks and in lower case: X-Amz-Signature, accessToken and api_key have such a part.
SECRET_PARTS = (
    "apikey", "assertion", "auth", "credential", "jwt", "passphrase", "passw", "secret", "session", "signature",
    "ticket", "token",
)  # fmt: skip
# Whole names, because longer names with such a part are mostly no secrets: country_code, sort_key, design.
SECRET_NAMES = frozenset(("code", "key", "otp", "pass", "pin", "pwd", "sid", "sig"))

_MARKS = re.compile(r"[^a-z0-9]+")
_SEPARATOR = re.compile(r"([&;])")
_NAME = re.compile(r"(?:^|[?&;#])([^?&;#=]+)=")
# The head of a JWT begins with {" in base64url. The dots may be encoded; a token that was cut off may have none.
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_=-]{8,}(?:(?:\.|%2[Ee])[A-Za-z0-9_=-]*)*")
# 16 characters: a shorter word behind the scheme is a word of a sentence.
_CREDENTIAL = re.compile(r"\b(bearer|basic)([ +]|%20)[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE)


def without_tokens(text: str) -> str:
    """Hide signed tokens (JWT).

    >>> without_tokens("/download/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl/a")
    '/download/***/a'
    """
    return _TOKEN.sub(HIDDEN, text) if "eyJ" in text else text


def without_credentials(text: str) -> str:
    """Hide signed tokens, and what stands behind the schemes Bearer and Basic.

    >>> without_credentials("refused: Bearer 0123456789abcdef0123")
    'refused: Bearer ***'
    """
    return _CREDENTIAL.sub(rf"\1\2{HIDDEN}", without_tokens(text))


def is_secret(name: str) -> bool:
    """Whether the name of a parameter says that the value is a secret.

    >>> is_secret("X-Amz-Signature"), is_secret("apiKey"), is_secret("code"), is_secret("country_code")
    (True, True, True, False)
    """
    plain = _MARKS.sub("", name.lower())
    return plain in SECRET_NAMES or any(part in plain for part in SECRET_PARTS)


@dataclass(frozen=True, slots=True)
class Redaction:
    """What an access log shows of targets.

    Attributes:
        names: of parameters whose values are hidden, in lower case; EVERY_PARAMETER hides all values.
        shows_query: whether the query is shown.
    """

    names: frozenset[str] = frozenset()
    shows_query: bool = False

    def query(self, target: bytes) -> str:
        """The query of a target with hidden values; "" without a query, or if no query is shown."""
        query = target.partition(b"?")[2].decode("latin-1") if self.shows_query else ""
        return "".join(map(self._shown, _SEPARATOR.split(query)))

    def hides(self, name: str) -> bool:
        """Whether the values of a parameter are hidden.

        Args:
            name: decoded.
        """
        return EVERY_PARAMETER in self.names or name.lower() in self.names or is_secret(name)

    def _shown(self, parameter: str) -> str:
        name, is_given, value = parameter.partition("=")
        if not is_given:
            return parameter
        return f"{name}={HIDDEN if self.hides(unquote_plus(name)) or self._holds_hidden(value) else value}"

    def _holds_hidden(self, value: str) -> bool:
        """Whether a value is a URL or a query of its own that has a hidden parameter, as of a redirection."""
        return any(self.hides(name) for name in _NAME.findall(unquote_plus(unquote_plus(value))))
