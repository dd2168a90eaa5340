"""GET /admin/api/openapi.json: the description of the pages below /admin/api, by OpenAPI 3.1."""

import json
from pathlib import Path

from tornado_gateway import __version__
from tornado_gateway.handlers.admin_page import AdminPage

_DOCUMENT = json.loads(Path(__file__).with_name("pages").joinpath("openapi.json").read_text(encoding="utf-8"))
_DOCUMENT["info"]["version"] = __version__


class ApiDocumentHandler(AdminPage):
    """The document."""

    def get(self) -> None:
        self.send_json(_DOCUMENT)

    head = get
