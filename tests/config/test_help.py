"""How variables are shown: each is described once, and effective values can be loaded again."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tornado_gateway.config.env_file import parse_env
from tornado_gateway.config.help import effective, environment_help, example_env, markdown_table, write
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import MASK
from tornado_gateway.config.settings import assemble
from tornado_gateway.config.variables import VARIABLES

UPSTREAMS = json.dumps({"billing": ["http://10.0.0.7"]})
NAMES = [variable.name for variable in VARIABLES]


@pytest.mark.parametrize("render", [environment_help, example_env, markdown_table])
def test_each_variable_is_explained_once(render: Callable[[], str]) -> None:
    assert [render().count(variable.line) for variable in VARIABLES] == [1] * len(VARIABLES)


def test_help_names_variables_with_their_defaults_under_their_groups() -> None:
    text = environment_help()
    assert text.startswith("Server:\n  HOST=0.0.0.0\n      addresses, host names or *")
    assert "\n\nLogs:\n  LOG_LEVEL=info\n" in text
    assert re.findall(r"^  ([A-Z_]+)=", text, re.MULTILINE) == NAMES


def test_the_markdown_table_has_a_row_per_variable() -> None:
    rows = markdown_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == NAMES
    assert rows[1].startswith("| `PORT` | `8080` | TCP port to listen on, ")
    assert "| `VIA_NAME` |  | this gateway's pseudonym" in markdown_table()


EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"


def test_env_example_is_what_the_table_says() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == example_env()


def test_both_files_are_written_anew(tmp_path: Path) -> None:
    document = tmp_path / "docs" / "configuration.md"
    document.parent.mkdir()
    document.write_text("# Title\n<!-- variables -->\n| old |\n<!-- /variables -->\nEnd.\n")
    (tmp_path / "docs" / "reload.md").write_text("<!-- restart -->\nold\n<!-- /restart -->\n")
    for _ in range(2):
        write(tmp_path)
        assert (tmp_path / ".env.example").read_text() == example_env()
        assert document.read_text() == (f"# Title\n<!-- variables -->\n{markdown_table()}<!-- /variables -->\nEnd.\n")


def test_env_example_sets_upstreams_only() -> None:
    assert parse_env(EXAMPLE.read_bytes(), ".env").values == {"UPSTREAMS": ""}


def test_env_example_without_its_comment_marks_sets_the_defaults() -> None:
    text = re.sub(r"(?m)^#(?=[A-Z])", "", example_env())
    env = dict(parse_env(text.encode(), ".env").values)
    assert list(env) == NAMES
    assert load_settings(env | {"UPSTREAMS": UPSTREAMS}) == load_settings({"UPSTREAMS": UPSTREAMS})


# What is in effect


def test_effective_values_are_shown_as_environment_variables() -> None:
    env = {
        "UPSTREAMS": '{"a": ["http://a"], "b": {"endpoints": [{"url": "http://b", "weight": 2}]}}',
        "GATEWAY_ENV": "production",
        "JWT_SECRET": "k" * 32,
        "TRUSTED_PROXIES": "10.0.0.0/8,::1",
        "DNS_TTL_MS": "0.5",
        "MAX_BODY_BYTES": "0",
    }
    shown_values = dict(effective(load_settings(env)))
    assert list(shown_values) == NAMES
    assert shown_values == {variable.name: variable.default for variable in VARIABLES} | env | {
        "UPSTREAMS": '{"a": {"endpoints": ["http://a"]}, "b": {"endpoints": [{"url": "http://b", "weight": 2}]}}',
        "TRUSTED_PROXIES": "10.0.0.0/8,::1/128",
        "AUTH_REQUIRED": "true",
        "JWT_SECRET": MASK,
        "WS_ALLOWED_ORIGINS": "same-origin",
    }


def test_effective_values_can_be_loaded_again() -> None:
    env = {"SHUTDOWN_DELAY_MS": "0.0000001", "TRUSTED_PROXIES": "::/0", "VIA_NAME": "a", "ACCESS_LOG": "no"}
    settings = load_settings({"UPSTREAMS": UPSTREAMS, **env})
    again = load_settings(dict(effective(settings)))
    assert again == assemble(settings, {"shutdown.delay": 0.0})  # nanoseconds are shown, less is not


def test_the_query_of_a_path_is_not_shown() -> None:
    document = {"a": {"endpoints": ["http://a"], "healthPath": "/h?key=hunter2"}}
    env = {"UPSTREAMS": json.dumps(document), "HEALTH_PATH": "/up?token=hunter2"}
    shown_values = dict(effective(load_settings(env)))
    assert "hunter2" not in str(shown_values)
    assert shown_values["HEALTH_PATH"] == f"/up?{MASK}"


def test_services_from_a_file_are_in_effect_too(tmp_path: Path) -> None:
    path = tmp_path / "upstreams.json"
    path.write_text(UPSTREAMS)
    shown_values = dict(effective(load_settings({"UPSTREAMS_FILE": str(path)})))
    assert json.loads(shown_values["UPSTREAMS"]) == {"billing": {"endpoints": ["http://10.0.0.7"]}}
    assert shown_values["UPSTREAMS_FILE"] == str(path)
