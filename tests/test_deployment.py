"""The files of deploy/ and the Procfile say what the gateway understands; the programs that read the files agree.

tests/test_entrances.py has the proxies.
"""

import contextlib
import http.client
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.plain_yaml import NotPlain, read_yaml
from tests.support.ports import free_port
from tests.support.prometheus import promtool
from tests.support.redis import StartRedis
from tornado_gateway.__main__ import BAD_CONFIGURATION, STOPPED, parse
from tornado_gateway.config.exposure import exposures
from tornado_gateway.config.hints import hints
from tornado_gateway.config.ineffective import ineffective
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.settings import Settings
from tornado_gateway.config.variables import VARIABLES
from tornado_gateway.handlers.router import HEALTH
from tornado_gateway.policy.handover import Role

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
RUN = "python -m tornado_gateway"
PATIENCE = 30  # seconds


def configured(env: dict[str, str]) -> Settings:
    """The settings of variables; no warning may be told."""
    settings = load_settings(env)
    assert [*hints(env, {}), *ineffective(settings, env), *exposures(settings)] == []
    return settings


# ---------------------------------------------------------------- systemd, Procfile


def unit(name: str) -> dict[str, str]:
    """The assignments of a unit; the last one of each name."""
    lines = (ROOT / "deploy" / "systemd" / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def test_the_service_is_started_checked_and_replaced() -> None:
    service = unit("tornado-gateway.service")
    assert service["ExecStart"].endswith(RUN)
    assert service["ExecStartPre"] == f"{service['ExecStart']} --check"
    assert service["ExecReload"] == "kill -USR2 $MAINPID"
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "all")


def test_a_drain_is_not_cut_short_and_a_wrong_configuration_is_not_started_again() -> None:
    service = unit("tornado-gateway.service")
    assert float(service["TimeoutStopSec"]) > Settings().shutdown.timeout
    assert service["RestartPreventExitStatus"] == str(BAD_CONFIGURATION)


def test_the_socket_for_successors_is_in_a_directory_of_the_service() -> None:
    service = unit("tornado-gateway.service")
    name, _, path = service["Environment"].partition("=")
    assert name in {each.name for each in VARIABLES}
    assert Path(path).parent == Path("/run") / service["RuntimeDirectory"]
    assert service["RuntimeDirectoryMode"] == "0700"


def test_systemd_s_socket_is_for_everybody_and_is_the_default_port() -> None:
    socket = unit("tornado-gateway.socket")
    assert Role(socket["FileDescriptorName"]) is Role.PUBLIC
    assert int(socket["ListenStream"]) == Settings().listen.port


def test_the_procfile_starts_the_gateway() -> None:
    assert (ROOT / "Procfile").read_text(encoding="utf-8") == f"web: {RUN}\n"


def test_systemd_finds_the_service_well_shut_off() -> None:
    """2.0 of 10, where 10 is a service without any protection."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20"]
    path = DEPLOY / "systemd" / "tornado-gateway.service"
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_of_the_page_starts_the_gateway_by_systemds_socket(tmp_path: Path) -> None:
    (command,) = re.findall(r"<!-- activate -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    port = free_port()
    assert "127.0.0.1:8080" in command
    words = shlex.split(command.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("\\\n", " "))
    words[words.index("python")] = sys.executable
    words[1:1] = ["-E", f"PYTHONPATH={ROOT}", "-E", "LOG_LEVEL=warn", "-E", f"PORT={free_port()}"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        try:
            assert ask_until_it_listens(port) == 200
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == STOPPED


def ask_until_it_listens(port: int) -> int:
    """The status of /healthz. systemd-socket-activate starts the gateway because of the question."""
    while True:
        with (
            contextlib.suppress(ConnectionRefusedError),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection,
        ):
            connection.request("GET", "/healthz")
            return connection.getresponse().status
        time.sleep(0.02)


# ---------------------------------------------------------------- Docker compose, Prometheus, Grafana


def compose(**shell: str) -> dict[str, Any]:
    """The services of the file, with variables of the shell (https://docs.docker.com/reference/compose-file/interpolation/)."""
    text = (DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8")
    filled = re.sub(r"\$\{(\w+):-(\w*)\}", lambda found: json.dumps(shell.get(found[1], found[2])), text)
    assert "$" not in filled
    services: dict[str, Any] = read_yaml(filled)[0]["services"]
    return services


COMPOSE = compose()


@pytest.mark.parametrize("name", ["gateway", "demo"])
def test_compose_starts_the_image_with_variables_that_the_gateway_knows(name: str) -> None:
    service = COMPOSE[name]
    asked = parse(service.get("command", RUN.split())[3:])
    env = {**service["environment"], **({"PORT": asked.port, "HOST": asked.host} if asked.demo else {})}
    settings = configured(env if "UPSTREAMS" in env else {**env, "UPSTREAMS": '{"x": ["http://x"]}'})
    assert settings.listen.hosts == ("0.0.0.0",)
    if asked.demo:  # its health check asks by the variables
        assert (service["environment"]["HOST"], service["environment"]["PORT"]) == (asked.host, asked.port)


def test_compose_gives_the_gateway_time_to_drain_and_no_privileges() -> None:
    gateway = COMPOSE["gateway"]
    assert int(gateway["stop_grace_period"].removesuffix("s")) > Settings().shutdown.timeout
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]


def test_the_services_of_compose_are_those_of_the_file() -> None:
    settings = load_settings(COMPOSE["gateway"]["environment"])
    urls = [each.url for service in settings.services for each in service.endpoints]
    port = COMPOSE["demo"]["environment"]["PORT"]
    assert {url.removeprefix("http://").partition("/")[0] for url in urls} == {f"demo:{port}"}
    assert settings.sharing.redis_url == "redis://redis:6379"
    assert {"demo", "redis"} <= set(COMPOSE)


def test_compose_has_no_secret_and_takes_that_of_the_shell() -> None:
    assert load_settings(COMPOSE["gateway"]["environment"]).sharing.endpoints_secret == b""
    given = compose(SHARED_ENDPOINTS_SECRET="s" * 32)["gateway"]["environment"]
    assert configured(given).sharing.endpoints_secret == b"s" * 32


def mounted() -> Iterator[tuple[Path, str]]:
    """The files that the services of compose see, and where."""
    for service in COMPOSE.values():
        for volume in service.get("volumes", []):
            source, target, mode = volume.split(":")
            assert mode == "ro"
            yield (DEPLOY / "compose" / source).resolve(), target


def test_compose_mounts_files_that_exist() -> None:
    found = dict(mounted())
    assert all(path.exists() for path in found)
    dashboards = read_yaml((DEPLOY / "grafana/provisioning/dashboards/tornado-gateway.yaml").read_text("utf-8"))[0]
    folder = dashboards["providers"][0]["options"]["path"]
    home = COMPOSE["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == found[DEPLOY / "grafana" / "tornado-gateway.json"]
    assert Path(home).parent == Path(folder)


def test_prometheus_of_compose_scrapes_the_listener_for_operators(tmp_path: Path) -> None:
    text = (DEPLOY / "compose" / "prometheus.yml").read_text(encoding="utf-8")
    (targets,) = [each["targets"] for each in read_yaml(text)[0]["scrape_configs"][0]["static_configs"]]
    assert targets == [f"gateway:{COMPOSE['gateway']['environment']['ADMIN_PORT']}"]
    rules = {target: str(path) for path, target in mounted() if target.endswith("alerts.yml")}
    for target, path in rules.items():
        assert target in text
        text = text.replace(target, path)
    (tmp_path / "prometheus.yml").write_text(text, encoding="utf-8")
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_grafana_asks_the_prometheus_of_compose() -> None:
    text = (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8")
    assert read_yaml(text)[0]["datasources"][0]["url"] == "http://prometheus:9090"
    assert "prometheus" in COMPOSE


def as_processes(redis: str) -> tuple[dict[str, str], dict[str, str], list[str], int]:
    """Variables of gateway and demo, the command of the demo, and the port of the gateway, on loopback."""
    demo, port, operators = free_port(), free_port(), free_port()
    text = json.dumps([COMPOSE["gateway"]["environment"], COMPOSE["demo"]["environment"], COMPOSE["demo"]["command"]])
    for old, new in {"demo:9000": f"127.0.0.1:{demo}", "9000": str(demo), "9090": str(operators)}.items():
        assert old in text
        text = text.replace(old, new)
    gateway, other, command = json.loads(text.replace("0.0.0.0", "127.0.0.1").replace("redis://redis:6379", redis))
    return {**gateway, "HOST": "127.0.0.1", "PORT": str(port)}, other, [sys.executable, *command[1:]], port


def test_the_services_of_compose_work_together(tmp_path: Path, redis_server: StartRedis) -> None:
    """Without Docker: as processes, with loopback in the place of the names."""
    gateway, demo, command, port = as_processes(f"redis://127.0.0.1:{redis_server().port}")
    clean = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    run = [sys.executable, "-m", "tornado_gateway"]
    with (
        subprocess.Popen(command, env=clean | demo, cwd=tmp_path, stdout=subprocess.DEVNULL) as services,
        subprocess.Popen(run, env=clean | gateway, cwd=tmp_path, stdout=subprocess.DEVNULL) as entrance,
    ):
        try:
            assert ask_until_it_listens(int(demo["PORT"])) == 200
            assert ask_until_it_listens(port) == 200
            assert b"<title>" in answer(port, "/demo/live/", "text/html")
            assert answer(port, "/demo/live/events", "text/event-stream") == b"retry: 1000\n"
            assert b"gateway_build_info" in answer(int(gateway["ADMIN_PORT"]), "/metrics", "text/plain")
        finally:
            services.kill()
            entrance.kill()


def answer(port: int, path: str, accepted: str) -> bytes:
    """The body of a 200; of an event stream, the first event."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", path, headers={"Accept": accepted})
        response = connection.getresponse()
        assert response.status == 200
        if "event-stream" not in accepted:
            return response.read()
        lines = iter(response.readline, b"\n")
        return b"".join(lines)


# ---------------------------------------------------------------- Kubernetes

KUBERNETES = DEPLOY / "kubernetes"


def objects() -> dict[str, dict[str, Any]]:
    """The objects of all files that kustomization.yaml names, by kind."""
    (kustomization,) = read_yaml((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    files = kustomization["resources"]
    assert {"kustomization.yaml", *files} == {path.name for path in KUBERNETES.iterdir()}
    found = [each for file in files for each in read_yaml((KUBERNETES / file).read_text(encoding="utf-8"))]
    by_kind = {each["kind"]: each for each in found}
    assert len(by_kind) == len(found)
    return by_kind


OBJECTS = objects()
POD = OBJECTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
VARIABLES_OF_PODS = OBJECTS["ConfigMap"]["data"]


def test_each_pod_starts_without_a_warning() -> None:
    settings = configured(VARIABLES_OF_PODS)
    ports = {each["name"]: each["containerPort"] for each in CONTAINER["ports"]}
    assert ports == {"http": settings.listen.port, "operators": settings.admin_listen.port}


def test_the_secret_of_the_page_lets_pods_share_and_stands_in_no_file() -> None:
    (command,) = re.findall(r"^kubectl -n gateway create secret generic (.*?[^\\])\n", PAGE, re.MULTILINE | re.DOTALL)
    name, *literals = shlex.split(command.replace("\\\n", " ").replace("$(openssl rand -hex 32)", "5" * 64))
    secret = dict(each.removeprefix("--from-literal=").split("=", 1) for each in literals)
    assert name == CONTAINER["envFrom"][1]["secretRef"]["name"]
    assert set(secret) == {"JWT_SECRET", "SHARED_ENDPOINTS_SECRET", "REDIS_URL"}
    assert not set(secret) & set(VARIABLES_OF_PODS)
    sharing = configured(VARIABLES_OF_PODS | secret | {"AUTH_REQUIRED": "true"}).sharing
    assert (sharing.endpoints_secret, sharing.redis_url) == (b"5" * 64, secret["REDIS_URL"])


def test_a_pod_may_drain_to_the_end() -> None:
    shutdown = load_settings(VARIABLES_OF_PODS).shutdown
    assert shutdown.delay > 0
    assert POD["spec"]["terminationGracePeriodSeconds"] > shutdown.delay + shutdown.timeout
    assert shutdown.spread <= shutdown.longest_spread


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_pages_that_need_no_credential(probe: str) -> None:
    asked = CONTAINER[probe]["httpGet"]
    assert asked["path"] == ("/readyz" if probe == "readinessProbe" else "/healthz")
    assert asked["path"] in HEALTH
    assert asked["port"] in {each["name"] for each in CONTAINER["ports"]}


def test_selectors_find_the_pods() -> None:
    labels = POD["metadata"]["labels"]
    (spread,) = POD["spec"]["topologySpreadConstraints"]
    selectors = [OBJECTS["Service"]["spec"]["selector"], OBJECTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]]
    specs = [OBJECTS["Deployment"]["spec"], OBJECTS["PodDisruptionBudget"]["spec"]]
    selectors += [each["selector"]["matchLabels"] for each in specs] + [spread["labelSelector"]["matchLabels"]]
    assert selectors == [labels] * 5


def test_references_lead_to_objects() -> None:
    def named(reference: dict[str, str]) -> None:
        assert OBJECTS[reference["kind"]]["metadata"]["name"] == reference["name"]

    scaling, binding = OBJECTS["HorizontalPodAutoscaler"]["spec"], OBJECTS["RoleBinding"]
    named({key: scaling["scaleTargetRef"][key] for key in ("kind", "name")})
    named(binding["roleRef"])
    named(binding["subjects"][0])
    named({"kind": "ServiceAccount", "name": POD["spec"]["serviceAccountName"]})
    named({"kind": "ConfigMap", "name": CONTAINER["envFrom"][0]["configMapRef"]["name"]})
    (kustomization,) = read_yaml((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    named({"kind": "Namespace", "name": kustomization["namespace"]})


def test_ports_have_names_of_the_container() -> None:
    names = {each["name"] for each in CONTAINER["ports"]}
    ingress = [port["port"] for rule in OBJECTS["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert set(ingress) == names
    assert {each["targetPort"] for each in OBJECTS["Service"]["spec"]["ports"]} == {"http"}


def test_scaling_asks_for_a_metric_of_the_gateway_that_the_page_exports() -> None:
    metrics = [each["pods"]["metric"]["name"] for each in OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"][1:]]
    observability = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    assert metrics
    assert all(f"| `{each}` |" in observability and f"{each}{{namespace" in PAGE for each in metrics)


def test_pods_run_as_the_user_of_the_image_without_privileges() -> None:
    (user,) = re.findall(r"^USER (\d+):\1$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert POD["spec"]["securityContext"]["runAsUser"] == int(user)
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


# ---------------------------------------------------------------- plain YAML


@pytest.mark.parametrize(
    "text",
    ["a: &b", "a: |", "a: b # c", "a: b: c", "a:", "- ", "a: [b]", "a: 1\na: 2", "a: 1\n  b: 2", "a: 1\n- 2", ""],
)
def test_what_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(NotPlain):
        read_yaml(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: true\nb: 'true'\nc: 12\nd: \"12\"\ne: 1.2", {"a": True, "b": "true", "c": 12, "d": "12", "e": "1.2"}),
        ("a:\n- 1\n- b: 2\n  c:\n    - 3\nd: {}", {"a": [1, {"b": 2, "c": [3]}], "d": {}}),
        ("# a\nb: c d # e".replace(" # e", ""), {"b": "c d"}),
        ("- - 1\n  - 2\n- 3", [[1, 2], 3]),
        ("a: '# b: c'", {"a": "# b: c"}),
        ("a: http://b:1", {"a": "http://b:1"}),
    ],
)
def test_plain_yaml_is_read(text: str, value: object) -> None:
    assert json.loads(json.dumps(read_yaml(text))) == [value]


# ---------------------------------------------------------------- demonstrations


@pytest.mark.parametrize("name", ["reload", "restart", "scale-out"])
def test_a_demonstration_is_a_script_with_variables_that_the_gateway_knows(name: str) -> None:
    """`bash tests/long demonstrations` runs the scripts."""
    path = DEPLOY / "demonstrations" / f"{name}.sh"
    subprocess.run(["bash", "-n", str(path)], timeout=PATIENCE, check=True)
    exported = re.findall(r"^export (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    names = re.findall(r"\b([A-Z_]{4,})=", " ".join(exported))
    assert names
    assert set(names) <= {each.name for each in VARIABLES}
