"""Access: which credentials a request may prove its client with, and what the credential must permit."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The kinds of credentials."""

    __hash__ = object.__hash__  # Enum's own is a function in Python, and each request looks into sets of kinds

    NOTHING = "none"
    JWT = "jwt"
    KEY = "key"
    BASIC = "basic"
    MTLS = "mtls"  # a certificate of the client's, proved in the TLS handshake
    SESSION = "session"  # of an operator: accepted by pages below /admin, and by no service


# A look-up of a member in the class is a call of a function in Python (3.11).
NOTHING, JWT, KEY, BASIC, MTLS, SESSION = Kind

# A rule is the set of the kinds that are accepted. A request that may come without a credential may come with any, so
# that the intersection of rules is the rule that asks for whatever each rule asks for.
ANYTHING = frozenset(Kind) - {SESSION}
ANY = ANYTHING - {NOTHING}
RULES = {
    "none": ANYTHING,
    "jwt": frozenset({JWT}),
    "key": frozenset({KEY}),
    "basic": frozenset({BASIC}),
    "mtls": frozenset({MTLS}),
    "any": ANY,
}


@dataclass(frozen=True, slots=True)
class Access:
    """What a service or a route asks of clients.

    Attributes:
        rule: the accepted kinds of credentials; None for the default, which AUTH_REQUIRED decides.
        scopes: what a credential must permit; a scope needs a credential, whatever AUTH_REQUIRED says.
    """

    rule: frozenset[Kind] | None = None
    scopes: frozenset[str] = frozenset()

    def accepted(self, default: frozenset[Kind]) -> frozenset[Kind]:
        """The accepted kinds of credentials.

        Args:
            default: the rule of a service that has none.

        >>> Access().accepted(ANY) == ANY, Access(RULES["none"]).accepted(ANY) == ANYTHING
        (True, True)
        >>> Access(scopes=frozenset({"read"})).accepted(ANYTHING) == ANY
        True
        """
        if self.rule is not None:
            return self.rule
        return default - {NOTHING} if self.scopes else default

    def needs_credential(self, default: frozenset[Kind]) -> bool:
        return NOTHING not in self.accepted(default)


DEFAULT = Access()
PUBLIC = Access(RULES["none"])


def default_rule(*, is_required: bool) -> frozenset[Kind]:
    """The rule of services and routes that have none."""
    return ANY if is_required else ANYTHING


def permits_more(one: Access, other: Access, default: frozenset[Kind]) -> bool:
    """Whether `one` may permit a request that `other` refuses.

    >>> permits_more(DEFAULT, Access(RULES["jwt"]), ANY), permits_more(Access(RULES["jwt"]), DEFAULT, ANY)
    (True, False)
    """
    return not (one.accepted(default) <= other.accepted(default) and other.scopes <= one.scopes)


def admin_access(default: frozenset[Kind], *, is_asked: bool) -> Access:
    """What pages below /admin ask of clients.

    Args:
        default: the rule of a service that has none.
        is_asked: whether the pages need a credential, whatever `default` says.

    >>> Kind.SESSION in admin_access(ANY, is_asked=False).accepted(ANY)
    True
    >>> admin_access(ANYTHING, is_asked=False).accepted(ANYTHING) == ANYTHING
    True
    """
    return Access(ANY | {SESSION} if is_asked or NOTHING not in default else ANYTHING)


def strictest(several: Iterable[Access], default: frozenset[Kind]) -> Access:
    """An Access that permits only what each Access permits. No credential is accepted if the rules share no kind.

    >>> access = strictest([Access(RULES["none"]), Access(RULES["jwt"], frozenset({"a"}))], ANYTHING)
    >>> access.rule == RULES["jwt"], access.scopes
    (True, frozenset({'a'}))
    """
    accesses = list(several)
    rule = ANYTHING.intersection(*(each.accepted(default) for each in accesses))
    return Access(rule, frozenset().union(*(each.scopes for each in accesses)))
