"""The base of all pages below /admin.

Without a valid credential a browser gets the log-in page with the status 401, and a program gets JSON. Both are told
apart by Accept: browsers prefer text/html to application/json.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from tornado.template import Template

from tornado_gateway.errors import GatewayError, Unauthorized
from tornado_gateway.handlers.base import PageHandler
from tornado_gateway.handlers.local_reply import error_fields
from tornado_gateway.policy.http.negotiation import preferred

HOME = "/admin"
HTML = "text/html; charset=utf-8"
_OFFERS = [b"application/json", b"text/html"]

_FILES = Path(__file__).with_name("pages")
_STYLE = (_FILES / "admin.css").read_text(encoding="utf-8")
_TEMPLATES = {each.stem: Template(each.read_text(encoding="utf-8"), each.name) for each in _FILES.glob("*.html")}
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest()).decode("ascii")

# With a challenge of Basic, a browser would show a box of its own before the page.
_CHALLENGE = 'Bearer realm="gateway"'

# Nothing but the page's own style, and forms to the gateway. Referrer-Policy may not be no-referrer: browsers would
# send `Origin: null` with the forms (Fetch §3.2).
_GUARDS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class AdminPage(PageHandler):
    """A page below /admin."""

    @property
    def prefers_html(self) -> bool:
        return preferred(self.exchange.head.known_fields.get(b"accept", ()), _OFFERS) == b"text/html"

    def send_html(self, name: str, status: int = 200, **values: object) -> None:
        """Send a page of pages/, with values for the template."""
        self.set_status(status)
        self.set_header("Content-Type", HTML)
        for field, value in _GUARDS.items():
            self.set_header(field, value)
        self.finish(_TEMPLATES[name].generate(style=_STYLE, **values))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        cause = kwargs.get("exc_info", (None, None, None))[1]
        self.set_header("Vary", "Accept")
        if isinstance(cause, GatewayError) and self.shows_log_in(cause) and self.prefers_html:
            self._send_log_in(cause)
        else:
            super().write_error(status_code, **kwargs)

    def shows_log_in(self, error: GatewayError) -> bool:
        """Whether a browser gets the log-in page instead of an error."""
        return isinstance(error, Unauthorized)

    def complaint(self, error: GatewayError) -> str:
        """What the log-in page says about an error; "" for nothing."""
        return ""

    def _send_log_in(self, error: GatewayError) -> None:
        self.reason = error.reason
        for name, value in error_fields(error, self.gateway.forwarding.pseudonym):
            self.set_header(name.decode("ascii"), value)
        if isinstance(error, Unauthorized):
            self.set_header("WWW-Authenticate", _CHALLENGE)
        self.send_log_in(error.status, self.complaint(error))

    @property
    def place(self) -> str:
        """The path of the page to show after a log-in."""
        return self.request.path if self.request.method == "GET" else HOME

    def send_log_in(self, status: int = 200, complaint: str = "") -> None:
        """Send the log-in page."""
        has_password = self.gateway.operators.is_password is not None
        self.send_html("login", status, complaint=complaint, place=self.place, has_password=has_password)
