"""Access: whether a request needs a token, and what the token must permit."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Rule(Enum):
    """How a client proves who the client is."""

    NONE = "none"
    JWT = "jwt"


@dataclass(frozen=True, slots=True)
class Access:
    """What a service or a route asks of clients.

    Attributes:
        rule: None for the default: a token if AUTH_REQUIRED is true.
        scopes: what a token must permit; a scope needs a token, whatever AUTH_REQUIRED says.
    """

    rule: Rule | None = None
    scopes: frozenset[str] = frozenset()

    def needs_token(self, *, by_default: bool) -> bool:
        """Whether a request needs a token.

        >>> Access().needs_token(by_default=True), Access(Rule.NONE).needs_token(by_default=True)
        (True, False)
        >>> Access(scopes=frozenset({"read"})).needs_token(by_default=False)
        True
        """
        if self.rule is None:
            return by_default or bool(self.scopes)
        return self.rule is Rule.JWT


DEFAULT = Access()


def strictest(several: Iterable[Access], *, by_default: bool) -> Access:
    """An Access that permits only what each Access permits.

    >>> strictest([Access(Rule.NONE), Access(Rule.JWT, frozenset({"a"}))], by_default=False)
    Access(rule=<Rule.JWT: 'jwt'>, scopes=frozenset({'a'}))
    """
    accesses = list(several)
    needs = any(each.needs_token(by_default=by_default) for each in accesses)
    rule = Rule.JWT if needs else Rule.NONE
    return Access(rule, frozenset().union(*(each.scopes for each in accesses)))
