"""How the variables of sources are written: where Consul and the API server of Kubernetes are, and a token."""

import re

from tornado_gateway.config.parsers import Syntax
from tornado_gateway.config.problems import Invalid
from tornado_gateway.policy.http.target import is_trustworthy, parse_base_url

_VISIBLE = re.compile(r"[!-~]+")


def _parse_agent(text: str) -> str:
    try:
        origin, _ = parse_base_url(text)
    except ValueError:
        raise Invalid("is not a base URL", "a base URL such as http://127.0.0.1:8500") from None
    if origin.socket:
        raise Invalid("is a unix socket", "a base URL such as http://127.0.0.1:8500")
    return text


def _parse_api(text: str) -> str:
    _parse_agent(text)
    if not is_trustworthy(text):  # the token of the pod's account goes there
        raise Invalid("is neither https nor on loopback", "a base URL such as https://kubernetes.default.svc")
    return text


def _parse_token(text: str) -> str:
    if not _VISIBLE.fullmatch(text):
        raise Invalid("is not a token", "visible ASCII characters")
    return text


agent_url = Syntax(_parse_agent, str)
api_url = Syntax(_parse_api, str)
access_token = Syntax(_parse_token, str)
