"""RFC 9111 for a shared cache, word by word: a slow model that imports nothing of the gateway.

The model follows the text of the standard in its order, and the gateway's own rules where the standard says "may":
see the table in docs/cache.md. Fields are lists of pairs of strings, as they would be written; times are seconds.
"""

import re
from datetime import UTC, datetime

Fields = list[tuple[str, str]]

LARGEST = 2**31
DEFAULT_STATUSES = [200, 203, 300, 301, 308, 404, 410]
UNDERSTOOD_STATUSES = [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 451, 501]
NEGOTIATED = ["accept", "accept-charset", "accept-encoding", "accept-language"]


def lines(fields: Fields, name: str) -> list[str]:
    return [value.strip(" \t") for key, value in fields if key.lower() == name]


def directives(fields: Fields) -> list[tuple[str, str | None]]:
    """§5.2: a list of names with optional arguments, as tokens or quoted strings."""
    text = ",".join(lines(fields, "cache-control"))
    members, quoted, escaped, word = [], False, False, ""
    for character in text:
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            members.append(word)
            word = ""
            continue
        word += character
    members.append(word)
    found: list[tuple[str, str | None]] = []
    for member in filter(None, (each.strip(" \t") for each in members)):
        if "=" not in member:
            found.append((member.lower(), None))
            continue
        name, argument = member.split("=", 1)
        if len(argument) > 1 and argument[0] == argument[-1] == '"':
            argument = re.sub(r"\\(.)", r"\1", argument[1:-1])
        found.append((name.lower(), argument))
    return found


def asked(fields: Fields) -> list[tuple[str, str | None]]:
    """§5.4: Pragma: no-cache as Cache-Control: no-cache, if there is no Cache-Control."""
    if lines(fields, "cache-control"):
        return directives(fields)
    pragma = [member.strip().lower() for line in lines(fields, "pragma") for member in line.split(",")]
    return [("no-cache", None)] if "no-cache" in pragma else []


def seconds(said: list[tuple[str, str | None]], name: str) -> int | None:
    """§1.2.2, and §4.2.1: invalid freshness information makes a response stale; of several the most restrictive."""
    given = [argument for key, argument in said if key == name]
    if not given:
        return None
    if any(argument is None or not re.fullmatch("[0-9]+", argument) for argument in given):
        return 0
    return min(*(int(argument or "") for argument in given), LARGEST)


def has(said: list[tuple[str, str | None]], name: str) -> bool:
    return any(key == name for key, _ in said)


def limited_to(said: list[tuple[str, str | None]], name: str) -> set[str] | None:
    """§5.2.2.4 and §5.2.2.7: the fields of the qualified form; None for the unqualified form."""
    names: set[str] = set()
    for key, argument in said:
        if key == name:
            words = [word.strip(" \t").lower() for word in (argument or "").split(",") if word.strip(" \t")]
            if not words or not all(re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9a-z]+", word) for word in words):
                return None
            names |= set(words)
    return names


def date(text: str) -> float | None:
    """RFC 9110 §5.6.7, the preferred format alone; the model gets no other."""
    try:
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


class Model:
    """A cache for the responses to one target.

    Args:
        default: seconds of the lifetime of responses that name none; 0: not stored.
        grace: seconds for which the operator allows what stale-while-revalidate allows.
        error: seconds for which the operator allows what stale-if-error allows.
    """

    def __init__(self, default: float, grace: float = 0.0, error: float = 0.0) -> None:
        self.default, self.grace, self.error = default, grace, error

    # ---- §3

    def may_store(self, method: str, request: Fields, status: int, response: Fields, wall: float) -> bool:
        return (
            # "the request method is understood by the cache"; this cache stores answers to GET alone
            method == "GET"
            and self.understands(status, response)
            and not has(asked(request), "no-store")
            and self.allows_sharing(request, response)
            and self.may_be_matched(response)
            and self.has_a_reason(request, status, response, wall)
        )

    def understands(self, status: int, response: Fields) -> bool:
        """Items two to four."""
        said = directives(response)
        # "the response status code is final"; "206 or 304": this cache stores neither
        if status < 200 or status in (206, 304):
            return False
        # "must-understand": the cache understands the response status code; then no-store does not count
        if has(said, "must-understand"):
            return status in UNDERSTOOD_STATUSES
        # "the no-store cache directive is not present in the response"
        return not has(said, "no-store")

    def allows_sharing(self, request: Fields, response: Fields) -> bool:
        """Items five and six, and §7.3."""
        said = directives(response)
        # "if the cache is shared: the private response directive is either not present or allows a shared cache"
        if has(said, "private") and limited_to(said, "private") is None:
            return False
        # "if the cache is shared: Authorization is not present, or a directive allows shared caching"; here: every
        # credential, and not by must-revalidate alone
        if self.has_credentials(request) and not self.is_everybodys(response):
            return False
        # §7.3 leaves Set-Cookie to the cache
        withheld = (limited_to(said, "private") or set()) if has(said, "private") else set()
        withheld |= (limited_to(said, "no-cache") or set()) if has(said, "no-cache") else set()
        return not lines(response, "set-cookie") or "set-cookie" in withheld

    def has_credentials(self, request: Fields) -> bool:
        return bool(lines(request, "authorization") + lines(request, "cookie"))

    def is_everybodys(self, response: Fields) -> bool:
        return has(directives(response), "public") or has(directives(response), "s-maxage")

    def may_be_matched(self, response: Fields) -> bool:
        """§4.1: a response with "*" fails to match every request."""
        return "*" not in [name.strip() for line in lines(response, "vary") for name in line.split(",")]

    def has_a_reason(self, request: Fields, status: int, response: Fields, wall: float) -> bool:
        """The last item: the response has something that allows to store the response."""
        said = directives(response)
        explicit = self.explicit_lifetime(response, wall) is not None
        validated_always = has(said, "no-cache") and limited_to(said, "no-cache") is None
        by_default = status in DEFAULT_STATUSES and self.default > 0
        if not (explicit or validated_always or by_default):
            return False
        return explicit or not by_default or not self.has_credentials(request)

    # ---- §4.2

    def explicit_lifetime(self, response: Fields, wall: float) -> float | None:
        said = directives(response)
        if has(said, "s-maxage"):
            return seconds(said, "s-maxage")
        if has(said, "max-age"):
            return seconds(said, "max-age")
        if lines(response, "expires"):
            expires = [date(line) for line in lines(response, "expires")]
            if None in expires:
                return 0
            return max(0, min(float(each or 0) for each in expires) - self.date_value(response, wall))
        return None

    def lifetime(self, response: Fields, wall: float) -> float:
        """§4.2.1, or the default."""
        explicit = self.explicit_lifetime(response, wall)
        return self.default if explicit is None else explicit

    def date_value(self, response: Fields, wall: float) -> float:
        dates = lines(response, "date")
        value = date(dates[0]) if len(dates) == 1 else None
        return wall if value is None else value

    def current_age(self, response: Fields, delay: float, wall: float, resident: float) -> float:
        """§4.2.3, with the names of the text."""
        ages = lines(response, "age")
        first = ages[0].split(",")[0].strip() if ages else ""
        age_value = int(first) if re.fullmatch("[0-9]+", first) else 0
        apparent_age = max(0, wall - self.date_value(response, wall))
        response_delay = delay
        corrected_age_value = age_value + response_delay
        corrected_initial_age = max(apparent_age, corrected_age_value)
        return corrected_initial_age + resident

    # ---- §4

    def may_reuse(
        self, request: Fields, stored_request: Fields, response: Fields, delay: float, wall: float, resident: float
    ) -> bool:
        """Whether a stored response answers a GET without a validation."""
        age = self.current_age(response, delay, wall, resident)
        lifetime = self.lifetime(response, wall)
        # §3.5, for every credential, and for a response that was stored for a request without any
        if self.has_credentials(request) and not self.is_everybodys(response):
            return False
        return (
            self.is_selected(request, stored_request, response)
            and self.needs_no_validation(request, response, age, lifetime)
            and (lifetime > age or self.may_be_stale(request, response, age - lifetime))
        )

    def is_selected(self, request: Fields, stored_request: Fields, response: Fields) -> bool:
        """ "request header fields nominated by the stored response match" (§4.1)."""
        names = [name for line in lines(response, "vary") for name in line.split(",")]
        return all(self.comparable(name, request) == self.comparable(name, stored_request) for name in names)

    def needs_no_validation(self, request: Fields, response: Fields, age: float, lifetime: float) -> bool:
        said, wanted = directives(response), asked(request)
        # "the stored response does not contain the no-cache directive, unless successfully validated"
        if (has(said, "no-cache") and limited_to(said, "no-cache") is None) or has(wanted, "no-cache"):
            return False
        # §5.2.1.1
        if has(wanted, "max-age") and age > (seconds(wanted, "max-age") or 0):
            return False
        # §5.2.1.3
        return not has(wanted, "min-fresh") or lifetime - age >= (seconds(wanted, "min-fresh") or 0)

    def may_be_stale(self, request: Fields, response: Fields, staleness: float) -> bool:
        """ "allowed to be served stale" (§4.2.4)."""
        said, wanted = directives(response), asked(request)
        if has(said, "must-revalidate") or has(said, "proxy-revalidate") or has(said, "s-maxage"):
            return False
        if has(wanted, "max-stale"):
            arguments = [argument for name, argument in wanted if name == "max-stale"]
            if arguments == [None] or staleness <= (seconds(wanted, "max-stale") or 0):
                return True
        # RFC 5861 §3
        return staleness < max(seconds(said, "stale-while-revalidate") or 0, self.grace)

    def may_answer_error(self, request: Fields, response: Fields, delay: float, wall: float, resident: float) -> bool:
        """RFC 5861 §4, for a response and for a request, within §4.2.4 and §5.2.1.4."""
        said, wanted = directives(response), asked(request)
        if has(said, "must-revalidate") or has(said, "proxy-revalidate") or has(said, "s-maxage"):
            return False
        if (has(said, "no-cache") and limited_to(said, "no-cache") is None) or has(wanted, "no-cache"):
            return False
        allowed = max(seconds(said, "stale-if-error") or 0, seconds(wanted, "stale-if-error") or 0, self.error)
        staleness = self.current_age(response, delay, wall, resident) - self.lifetime(response, wall)
        return staleness < allowed

    def comparable(self, name: str, request: Fields) -> object:
        """§4.1: absent, or the combined lines; of negotiation a set of members."""
        name = name.strip(" \t").lower()
        values = lines(request, name)
        if not values or not name:
            return None
        if name in NEGOTIATED:
            members = [re.sub(r"[ \t]", "", member.lower()) for value in values for member in value.split(",")]
            return sorted(filter(None, members))
        return ", ".join(values)
