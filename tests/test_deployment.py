"""The units of systemd and the Procfile say what the gateway understands."""

from pathlib import Path

from tornado_gateway.__main__ import BAD_CONFIGURATION
from tornado_gateway.config.settings import Settings
from tornado_gateway.config.variables import VARIABLES
from tornado_gateway.policy.handover import Role

ROOT = Path(__file__).resolve().parents[1]
RUN = "python -m tornado_gateway"


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
