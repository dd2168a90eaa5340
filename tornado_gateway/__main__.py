"""The command line: reads the environment, runs the gateway, and handles signals.

Exit codes: 0 stopped cleanly, 1 crashed or was cut short, 2 wrong usage, 3 could not start, 78 wrong configuration
(EX_CONFIG of sysexits.h).
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import logging
import os
import platform
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path

from tornado.httpclient import AsyncHTTPClient

from tornado_gateway import __version__
from tornado_gateway.adapters import logs, stdio
from tornado_gateway.adapters.stdio import say
from tornado_gateway.app import App, CannotListen, authority
from tornado_gateway.config import hashing
from tornado_gateway.config.env_file import EnvFile, read_env_file
from tornado_gateway.config.help import MARKS, effective, environment_help
from tornado_gateway.config.listeners import read_listeners
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.parsers import EVERY_ADDRESS, hosts
from tornado_gateway.config.problems import ConfigurationError, Problem, shown
from tornado_gateway.config.settings import ListenConfig, ListenerSpec, Settings
from tornado_gateway.ctl import commands
from tornado_gateway.demo.demo import ROUTES, Demo, banner, upstreams_of
from tornado_gateway.reload import Configuration, reloader_of, warnings_about
from tornado_gateway.supervisor import worker
from tornado_gateway.supervisor.supervisor import Birth, Supervisor
from tornado_gateway.upkeep import garbage, service_manager
from tornado_gateway.upkeep.inheritance import CannotTakeOver, Inheritance, from_predecessor, from_systemd
from tornado_gateway.upkeep.ioloop import MonotonicIOLoop
from tornado_gateway.upkeep.successor import OPTION, Successor, command
from tornado_gateway.wire.client.client import PooledHTTPClient

ENV_FILE = ".env"
MACOS_DESCRIPTORS = 10_240  # OPEN_MAX: the most that macOS gives while it calls its hard limit unlimited
STOPPED, CRASHED, USAGE, CANNOT_START, BAD_CONFIGURATION = 0, 1, 2, 3, 78

log = logging.getLogger("tornado_gateway")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def main(arguments: list[str] | None = None) -> int:
    """Carry out the command line; return the exit code."""
    stdio.secure()
    try:
        return obey(arguments)
    finally:
        stdio.settle()


def obey(arguments: list[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["ctl"]:
        return control(given[1:])
    asked = parse(arguments)
    if asked.command == "hash":
        return make_hash(asked.what, asked.name)
    try:
        file = read_file(asked.env_file)
        return run(asked, merge(asked, os.environ, file), file)
    except ConfigurationError as error:
        for problem in error.problems:
            say(str(problem), sys.stderr)
        return BAD_CONFIGURATION


def run(asked: argparse.Namespace, environment: dict[str, str], file: EnvFile) -> int:
    """Carry out a parsed command line; return the exit code.

    Raises:
        ConfigurationError: a variable is wrong.
    """
    if asked.command == "healthcheck":
        return healthcheck(environment)
    raise_descriptor_limit()
    make_loop = loop_factory(environment.get("EVENT_LOOP", Settings().event_loop))
    if asked.demo:
        return run_demo(asked, environment, file, make_loop)
    settings, warnings = read(environment, file)
    if asked.check or asked.print_config:
        return show(settings, warnings, print_config=asked.print_config)
    if asked.takeover and not settings.listen.takeover:
        say("--takeover: TAKEOVER_SOCKET is not set", sys.stderr)
        return USAGE
    configuration = configuration_of(asked, settings, environment)
    if settings.workers > 1:
        return supervise(configuration, warnings, make_loop, takes_over=asked.takeover)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(serve(configuration, warnings, None, takes_over=asked.takeover))


def run_demo(
    asked: argparse.Namespace, environment: dict[str, str], file: EnvFile, make_loop: LoopFactory | None
) -> int:
    """Run the demo, whose services end with the process: nobody takes over, and no worker beside is started."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        demo = Demo()
        services = json.dumps(upstreams_of(runner.run(start(demo))))
        environment = of_demo(environment, services)
        settings, warnings = read(environment, file)
        if asked.check or asked.print_config:
            return show(settings, warnings, print_config=asked.print_config)
        configuration = configuration_of(asked, settings, environment, partial(of_demo, services=services))
        return runner.run(serve(configuration, warnings, demo, takes_over=False))


def of_demo(environment: Mapping[str, str], services: str) -> dict[str, str]:
    """The variables of a demo.

    Args:
        services: UPSTREAMS.
    """
    listeners = ("LISTEN", "TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA")  # the demo's traffic needs a plain listener
    left_out = ("UPSTREAMS_FILE", "TAKEOVER_SOCKET", "WEB_CONCURRENCY", *listeners)
    kept = {name: value for name, value in environment.items() if name not in left_out}
    return {"HOST": "127.0.0.1", **kept, "UPSTREAMS": services, "ROUTES": json.dumps(ROUTES)}


def configuration_of(
    asked: argparse.Namespace,
    settings: Settings,
    environment: dict[str, str],
    change: Callable[[dict[str, str]], dict[str, str]] = dict,
) -> Configuration:
    """The configuration of a command line.

    Args:
        environment: the variables of the start.
        change: gives the variables of the gateway for those that were read.
    """

    def read_again() -> tuple[dict[str, str], EnvFile]:
        file = read_file(asked.env_file)
        return change(merge(asked, os.environ, file)), file

    return Configuration(settings, environment, read_again, str(Path(asked.env_file or ENV_FILE).absolute()))


def read(environment: Mapping[str, str], file: EnvFile) -> tuple[Settings, list[str]]:
    """The settings, and warnings about the settings.

    Raises:
        ConfigurationError: a variable is wrong.
    """
    settings = load_settings(environment)
    return settings, list(warnings_about(settings, environment, file))


def supervise(
    configuration: Configuration, warnings: list[str], make_loop: LoopFactory | None, *, takes_over: bool
) -> int:
    """Run the workers; return the exit code. In a worker, the call never returns."""
    settings = configuration.settings
    logs.configure(settings.logs)
    for warning in warnings:
        log.warning(warning)
    try:
        inherited = inherit(settings.listen.takeover if takes_over else "")
    except CannotTakeOver as error:
        say(str(error), sys.stderr)
        return CANNOT_START
    with asyncio.Runner() as runner:
        return supervise_with(runner, configuration, inherited, partial(worker.live, make_loop))


def supervise_with(
    runner: asyncio.Runner, configuration: Configuration, inherited: Inheritance, live: Callable[[Birth], int]
) -> int:
    async def make() -> Supervisor:
        return Supervisor(configuration, inherited, command(sys.orig_argv[1:]))

    supervisor = runner.run(make())
    try:
        try:
            addresses, admin_addresses = runner.run(supervisor.open())
        except CannotListen as error:
            say(str(error), sys.stderr)
            return CANNOT_START
        announce(configuration.settings, addresses, admin_addresses)
        while (number := runner.run(supervisor.next_birth())) is not None:  # a fork needs a loop that stands still
            supervisor.start(number, live)
        return supervisor.exit_code
    finally:
        runner.run(supervisor.close())


def control(arguments: list[str]) -> int:
    """Steer a running gateway; return the exit code. Variables may stand in ./.env."""
    try:
        file = read_file(None).values
    except ConfigurationError:  # a gateway would say what is wrong; `ctl` needs two variables at most
        file = {}
    return commands.main(arguments, {**file, **os.environ}, is_terminal=sys.stdout.isatty())


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = stdio.ArgumentParser(
        prog="python -m tornado_gateway",
        description="A real-time API gateway: one entrance in front of a team's services.",
        epilog="`ctl` steers a running gateway: see `ctl --help`.\n\n"
        f"Variables of the environment, or of .env:\n{MARKS}\n\n{environment_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["run", "healthcheck", "hash"],
        default="run",
        help="run (the default); healthcheck: ask the gateway on this machine for /healthz, exit code 0 if the gateway "
        "lives; hash: read a key or a password from standard input, and write the item for API_KEYS or BASIC_USERS",
    )
    parser.add_argument("what", nargs="?", choices=[hashing.KEY, hashing.PASSWORD], help="with hash: key or password")
    parser.add_argument("name", nargs="?", default="client", help="with hash: of whom the key or password belongs to")
    parser.add_argument("--host", help="HOST: addresses to listen on")
    parser.add_argument("--port", help="PORT: the TCP port to listen on")
    parser.add_argument("--workers", metavar="N", help="WEB_CONCURRENCY: processes that share the work, or auto")
    parser.add_argument("--env-file", metavar="FILE", help="read variables from FILE instead of ./.env")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument(
        "--print-config", action="store_true", help="print the value of every variable, secrets masked, and exit"
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="run with small services of its own and a little traffic; UPSTREAMS and ROUTES are ignored",
    )
    parser.add_argument(
        OPTION,
        dest="takeover",
        action="store_true",
        help="take over the listeners of the gateway that runs, by TAKEOVER_SOCKET; just start if none runs",
    )
    parser.add_argument("--version", action="version", version=f"tornado_gateway {__version__}")
    asked = parser.parse_args(arguments)
    if (asked.command == "hash") is not bool(asked.what):
        parser.error("key or password is needed after hash, and only there")
    return asked


def read_file(named: str | None) -> EnvFile:
    """Read the file of --env-file, else ./.env if present.

    A .env that is a folder (Docker makes a folder for a volume whose file is missing) or a broken link is an error:
    otherwise settings for protection would be ignored.

    Raises:
        ConfigurationError: the file cannot be read, or lines are wrong.
    """
    if named is None and not os.path.lexists(ENV_FILE):
        return EnvFile({}, {})
    return read_env_file(ENV_FILE if named is None else named)


def merge(asked: argparse.Namespace, environ: Mapping[str, str], file: EnvFile) -> dict[str, str]:
    """Merge variables: the command line overrides the environment, which overrides the .env file.

    An empty value counts as absent.
    """
    options = {"HOST": asked.host or "", "PORT": asked.port or "", "WEB_CONCURRENCY": asked.workers or ""}
    layers: list[Mapping[str, str]] = [file.values, environ, options]
    return {name: value for layer in layers for name, value in layer.items() if value != ""}


def make_hash(what: str, name: str) -> int:
    """Write an item for API_KEYS or BASIC_USERS; return the exit code."""
    try:
        say(hashing.make_item(what, name))
    except hashing.CannotHash as error:
        say(str(error), sys.stderr)
        return USAGE
    return STOPPED


def show(settings: Settings, warnings: list[str], *, print_config: bool) -> int:
    for warning in warnings:
        say(f"warning: {warning}", sys.stderr)
    if print_config:
        for name, value in effective(settings):
            say(f"{name}={value}")
    else:
        say("configuration ok")
    return STOPPED


def healthcheck(environment: Mapping[str, str]) -> int:
    """Request /healthz at the first listener, for Docker's HEALTHCHECK; return the exit code.

    A gateway at max_connections answers 503, and counts as healthy.
    """
    try:
        status = ask_health(first_listener(environment))
    except (ConfigurationError, OSError, ValueError, http.client.HTTPException) as error:
        say(f"not healthy: /healthz of HOST and PORT, or of LISTEN: {error}", sys.stderr)
        return CRASHED
    alive = status in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE)
    say("healthy" if alive else f"not healthy: status {status}")
    return STOPPED if alive else CRASHED


def first_listener(environment: Mapping[str, str]) -> ListenerSpec:
    """The first listener, but one without the PROXY protocol, and without TLS, precedes the others.

    Raises:
        ConfigurationError, ValueError: a variable is wrong.
    """
    if environment.get("LISTEN"):
        return min(read_listeners(environment["LISTEN"]), key=lambda each: (each.proxied, each.tls))
    first, *_ = hosts.parse(environment["HOST"]) if environment.get("HOST") else ListenConfig().hosts
    port = int(environment.get("PORT", ListenConfig().port))
    return ListenerSpec(host=first, port=port, tls=bool(environment.get("TLS_CERT")))


class UnixHTTPConnection(http.client.HTTPConnection):
    """A connection to a unix socket.

    Args:
        path: of the socket.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connect_to(listener: ListenerSpec) -> http.client.HTTPConnection:
    """A connection to a listener on this machine. The certificate may be for any name: only life is asked for."""
    if listener.path:
        return UnixHTTPConnection(listener.path, timeout=2)
    address = local_authority(listener.host, listener.port)
    if not listener.tls:
        return http.client.HTTPConnection(address, timeout=2)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(address, timeout=2, context=context)


def ask_health(listener: ListenerSpec) -> int:
    """The status of /healthz at a listener.

    Raises:
        OSError: no answer within 2 s.
        HTTPException: the answer is not HTTP.
    """
    with contextlib.closing(connect_to(listener)) as connection:
        # RFC 9110 §7.2: a Host field has no zone; an address such as fe80::1%eth0 has.
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        return connection.getresponse().status


def loop_factory(choice: str) -> LoopFactory | None:
    """The event loop for EVENT_LOOP: uvloop if installed, unless the choice is "asyncio"; None for asyncio.

    load_settings() reports unknown choices.

    Raises:
        ConfigurationError: the choice is "uvloop", and uvloop is not installed.
    """
    if choice == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415  # optional
    except ImportError:
        if choice != "uvloop":
            return None
        raise ConfigurationError(
            (Problem("EVENT_LOOP", shown(choice), "is not installed", "auto or asyncio"),)
        ) from None
    return uvloop.new_event_loop


def raise_descriptor_limit() -> None:
    """Raise the limit of file descriptors to the hard limit, as Go programs do; a stream needs two descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (hard, MACOS_DESCRIPTORS):
        if soft < limit or limit == resource.RLIM_INFINITY:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                return


async def start(demo: Demo) -> dict[str, list[str]]:
    """Start the demo's services; return the URLs of each service."""
    MonotonicIOLoop.install()  # before the demo's Tornado servers make a stock IOLoop
    return await demo.start()


async def serve(configuration: Configuration, warnings: list[str], demo: Demo | None, *, takes_over: bool) -> int:
    """Listen until a signal or a successor, then drain; return the exit code."""
    settings = configuration.settings
    logs.configure(settings.logs)
    for warning in warnings:
        log.warning(warning)
    AsyncHTTPClient.configure(PooledHTTPClient)
    try:
        inherited = inherit(settings.listen.takeover if takes_over else "")
    except CannotTakeOver as error:
        say(str(error), sys.stderr)
        return CANNOT_START
    app = App(settings, inherited)
    successor = Successor(settings.listen.takeover, command(sys.orig_argv[1:]))
    reloader = reloader_of(app, configuration)
    signals = Signals(asyncio.get_running_loop(), successor.start, reloader.begin)
    life_signs = service_manager.LifeSigns()
    try:
        try:
            addresses = await app.start()
        except (CannotListen, CannotTakeOver) as error:
            say(str(error), sys.stderr)
            return CANNOT_START
        announce(settings, addresses, app.admin_addresses)
        service_manager.tell("READY=1", f"MAINPID={os.getpid()}")
        life_signs.start()
        if demo:
            url = f"http://{local_authority(*addresses[0])}"
            say(banner(url))
            demo.start_traffic(url)
        garbage.settle()
        await first_of(signals.first, app.replaced)
        if app.replaced.is_set():
            life_signs.stop()  # systemd is to hear of the successor's life alone
        return await stop(app, signals)
    finally:
        life_signs.stop()
        successor.close()
        await reloader.close()
        if demo:
            await demo.stop()
        await app.close()


def inherit(path: str) -> Inheritance:
    """The sockets that listen already: those of the gateway that runs, else those of systemd.

    Args:
        path: where a gateway that runs waits for a successor; "" for none.

    Raises:
        CannotTakeOver: there are sockets, and they cannot be had.
    """
    inherited = from_predecessor(path) if path else None
    return inherited or from_systemd(os.environ, os.getpid())


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waiting = [asyncio.ensure_future(each.wait()) for each in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()


def local_authority(host: str, port: int) -> str:
    """The authority by which a client on this machine reaches a bound address: loopback for a wildcard address."""
    loopback = {EVERY_ADDRESS: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # bound, not to bind
    return authority(loopback.get(host, host), port)


class Signals:
    """Handles signals. The first SIGTERM or SIGINT starts the drain, the second ends the drain.

    SIGUSR1 is ignored with a line in the log. By default the signal kills a process; other servers reopen their logs.

    Args:
        start_successor: called at SIGUSR2.
        reload: called at SIGHUP.

    Attributes:
        first, second: set by the first and second SIGTERM or SIGINT.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, start_successor: Callable[[], None], reload: Callable[[], None]
    ) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)
        loop.add_signal_handler(signal.SIGUSR2, start_successor)
        loop.add_signal_handler(signal.SIGHUP, reload)
        loop.add_signal_handler(signal.SIGUSR1, log.warning, "SIGUSR1 is ignored; SIGHUP reloads the configuration")

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


async def stop(app: App, signals: Signals) -> int:
    """Drain until everything has ended, a second signal or the timeout; return the exit code."""
    if not app.replaced.is_set():
        service_manager.tell("STOPPING=1")
    return STOPPED if await app.end(signals.second) else CRASHED


def announce(settings: Settings, addresses: list[tuple[str, int]], admin_addresses: list[tuple[str, int]]) -> None:
    loop = "uvloop" if settings.event_loop != "asyncio" and "uvloop" in sys.modules else "asyncio"
    workers = f", {settings.workers} workers" if settings.workers > 1 else ""
    services = ", ".join(f"{service.name} ({len(service.endpoints)})" for service in settings.services)
    log.info(
        "tornado_gateway %s on Python %s, %s, pid %d%s: listening on %s for %s%s",
        __version__,
        platform.python_version(),
        loop,
        os.getpid(),
        workers,
        ", ".join(authority(*address) for address in addresses),
        services,
        "".join(f", on {authority(*address)} for operators" for address in admin_addresses),
    )


if __name__ == "__main__":
    sys.exit(main())
