"""The dashboard: a page for the person on call.

GET /admin            the page; without JavaScript, a table of the services
GET /admin/           leads to the page
GET /admin/assets/*   its scripts and styles
GET /admin/events     the figures as an event stream, once a second
"""

import json
import time
from pathlib import Path

from tornado.iostream import StreamClosedError
from tornado.template import Template

from tornado_gateway.adapters.logs import LEVELS
from tornado_gateway.errors import GatewayError, NotFound
from tornado_gateway.handlers.admin_page import HOME, AdminPage
from tornado_gateway.handlers.session import find_session
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.http.expiry import Expiry
from tornado_gateway.policy.views.board import SERVICE_COLUMNS

ROOT = Path(__file__).resolve().parents[2] / "static" / "admin"
PREFIX = "/admin/assets/"
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

# Nothing but the page's own files may run: markup in a service's error could not do harm even if the page had a fault.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class GuardedPage(AdminPage):
    """A page for browsers, with the fields that keep a page from harm."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")  # the form of the log-out needs an Origin


class DashboardHandler(GuardedPage):
    """The page."""

    def get(self) -> None:
        board, template = self.gateway.observer.board, Template((ROOT / "index.html").read_text("utf-8"))
        services = [dict(zip(SERVICE_COLUMNS, json.loads(row.text), strict=True)) for row in board.services.values()]
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(
            template.generate(
                services=services,
                sentence=board.sentence,
                who=self.admitted.principal.name,
                has_log_out=self.gateway.operators.asks,
                can_act=not self.gateway.operators.config.is_read_only,
                has_cache=self.gateway.cache is not None,
                levels=list(LEVELS),
            )
        )

    head = get


class SlashHandler(AdminPage):
    """The page's path with a slash, as people type it."""

    def get(self) -> None:
        self.redirect(HOME, status=308)

    head = get


class AssetHandler(GuardedPage):
    """A file of the page."""

    @property
    def found(self) -> type[GatewayError] | None:
        return None if self._name in self._files() else NotFound

    @property
    def _name(self) -> str:
        return self.request.path.removeprefix(PREFIX)

    @staticmethod
    def _files() -> dict[str, Path]:
        """The files by name: no part of a request becomes a part of a path."""
        return {str(each.relative_to(ROOT)): each for each in ROOT.rglob("*") if each.suffix in TYPES}

    def get(self) -> None:
        file = self._files()[self._name]
        self.set_header("Content-Type", TYPES[file.suffix])
        self.set_header("Cache-Control", "no-cache")
        self.finish(file.read_bytes())

    head = get


class DashboardEventsHandler(GuardedPage):
    """The event stream of the page. The stream ends with the token, and when the gateway drains."""

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # nginx in front would hold the events back
        self.journal.is_stream, self.journal.head_seconds = True, 0.0
        observer = self.gateway.observer
        clock, principal = self.gateway.client.loop.time, self.admitted.principal
        expiry = Expiry.of(principal.expiry, clock(), time.time(), principal.holder)
        viewer = await observer.join(self.request.headers.get("Last-Event-ID", ""))
        try:
            async for text in viewer:
                if not self._may_see(expiry):
                    break  # the browser asks again, and is asked to log in
                self.write(text)
                await self.flush()
                self.exchange.watch_reader()  # a viewer that reads nothing is let go as any other client is
        except StreamClosedError:
            return
        finally:
            observer.leave(viewer)
        self.finish()

    def _may_see(self, expiry: Expiry) -> bool:
        """Whether the credential is still valid; with a session, whether the session goes on. A page that is open uses
        the session."""
        admitted, head, wall = self.admitted, self.exchange.head, time.time()
        if admitted.kind is Kind.SESSION:
            return find_session(self.gateway, head.known_fields, admitted.origination) is not None
        if self.gateway.revocations.refuses(admitted.principal.holder, wall):
            return False
        return not expiry.has_passed(self.gateway.client.loop.time(), wall)

    def head(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.finish()
