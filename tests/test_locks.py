"""The locked requirements: complete and consistent for every Python, and fit for the oldest pip that a Python brings.

Hash-checking mode asks for every requirement by name, version and hash. pip before 23.3 asks for the extras, too: a
dependency on coverage[toml] is not met by a line for coverage. `bash tests/long locks` installs from the index itself.
"""

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-extras.txt")
OLDEST_PIP = ROOT / "tests" / "support" / "oldest-pip.txt"

ENVIRONMENTS = [
    {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "sys_platform": platform,
        "platform_system": platform.capitalize(),
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
    }
    for version in ("3.11", "3.12", "3.13", "3.14")
    for platform in ("linux", "darwin")
]


@dataclass(frozen=True)
class Locked:
    """One requirement of a lock, with the lines that hold it."""

    name: str
    extras: frozenset[str]
    version: str
    marker: Marker | None
    hashes: tuple[str, ...] = field(compare=False)

    def applies(self, environment: Mapping[str, str]) -> bool:
        return self.marker is None or self.marker.evaluate(dict(environment))

    def meets(self, requirement: Requirement) -> bool:
        return self.version in requirement.specifier and requirement.extras <= self.extras


def locked(text: str) -> dict[str, Locked]:
    """The requirements of a lock by name.

    Raises:
        ValueError: a requirement has no version after ==, or no hash, or stands twice.
    """
    found: dict[str, Locked] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words, *hashes = re.split(r"\s--hash=", line)
        requirement = Requirement(words)
        pin = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
        name = canonicalize_name(requirement.name)
        if not pin or not hashes or name in found:
            raise ValueError(f"{name} is not locked by one version and its hashes")
        extras = frozenset(requirement.extras)
        found[name] = Locked(name, extras, pin[1], requirement.marker, tuple(map(str.strip, hashes)))
    return found


def requirements_of(name: str) -> list[Requirement]:
    """The requirements of an installed distribution; [] if not installed."""
    try:
        asked = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    return [Requirement(each) for each in asked]


def unmet(lock: Mapping[str, Locked], environment: Mapping[str, str]) -> Iterator[str]:
    """What pip would look for beside the lock in an environment, as "dependent: requirement"."""
    here = {name: each for name, each in lock.items() if each.applies(environment)}
    for each in here.values():
        for asked in requirements_of(each.name):
            scopes = [{**environment, "extra": extra} for extra in ("", *each.extras)]
            wanted = asked.marker is None or any(asked.marker.evaluate(scope) for scope in scopes)
            pinned = here.get(canonicalize_name(asked.name))
            if wanted and not (pinned and pinned.meets(asked)):
                yield f"{each.name}: {asked}"


def read(lock: str) -> str:
    return (ROOT / lock).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "environment", ENVIRONMENTS, ids=lambda each: f"{each['python_version']}-{each['sys_platform']}"
)
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_all_that_its_packages_ask_for(lock: str, environment: dict[str, str]) -> None:
    assert list(unmet(locked(read(lock)), environment)) == []


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-bench.txt"])
def test_a_lock_names_what_the_project_asks_for(lock: str) -> None:
    pins = locked(read(lock))
    source = (ROOT / lock).with_suffix(".in").read_text(encoding="utf-8")
    asked = [Requirement(line.partition(" #")[0]) for line in source.splitlines() if line and line[0] not in "-#"]
    assert asked
    assert [str(each) for each in asked if not pins[canonicalize_name(each.name)].meets(each)] == []


def test_tests_run_with_the_released_packages() -> None:
    released, tested = (locked(read(lock)) for lock in LOCKS[:2])
    assert {name: tested.get(name) for name in released} == released


def test_the_installed_packages_are_the_locked_packages() -> None:
    """Otherwise the tests above would look at other metadata, or at none."""
    here = {name: each for name, each in locked(read(LOCKS[1])).items() if each.applies({})}
    assert {name: distribution(name).version for name in here} == {name: each.version for name, each in here.items()}


def test_an_extra_that_is_not_named_is_found() -> None:
    lock = locked(read(LOCKS[1]).replace("coverage[toml]", "coverage"))
    assert [each.partition("=")[0] for each in unmet(lock, ENVIRONMENTS[0])] == ["pytest-cov: coverage[toml]>"]


@pytest.mark.parametrize("name", ["iniconfig", "pycparser"])
def test_a_package_that_is_not_named_is_found(name: str) -> None:
    lock = locked(read(LOCKS[1]))
    del lock[name]
    assert any(f" {name}" in each for each in unmet(lock, ENVIRONMENTS[0]))


@pytest.mark.parametrize(
    "text", ["a>=1 --hash=sha256:0", "a==1.* --hash=sha256:0", "a==1", "a==1 --hash=sha256:0\nA==1 --hash=sha256:0"]
)
def test_a_line_that_locks_nothing_is_found(text: str) -> None:
    with pytest.raises(ValueError, match="a is not locked"):
        locked(text)


# ---------------------------------------------------------------- the oldest pip itself


@pytest.fixture(scope="module")
def oldest_pip() -> Path:
    """The oldest pip that runs on this Python and comes with a supported one, as a wheel; fetched once."""
    folder = Path(sys.prefix) / "oldest-pip"
    if not list(folder.glob("pip-*.whl")):
        fetch = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r", OLDEST_PIP, "-d", folder]
        subprocess.run([sys.executable, *fetch], check=True, timeout=50)
    (wheel,) = folder.glob("pip-*.whl")
    return wheel


LATER = "99999"  # a version that the index will hold one day, which is when pip before 23.3 looks beyond the lock


def stand_in(each: Locked, version: str, folder: Path) -> str:
    """A wheel with the metadata of an installed distribution and nothing else; its SHA-256."""
    stem = f"{each.name.replace('-', '_')}-{version}"
    wheel = folder / f"{stem}-py3-none-any.whl"
    installed = distribution(each.name).read_text("METADATA")
    assert installed
    metadata = re.sub(r"(?m)^Version: .*", f"Version: {version}", installed, count=1)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", metadata)
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def resolve(lock: str, oldest_pip: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Let pip install a lock in hash-checking mode, dry, from stand-ins for what it names."""
    lines = []
    for each in locked(lock).values():
        if each.applies({}):
            extras = f"[{','.join(sorted(each.extras))}]" if each.extras else ""
            lines.append(f"{each.name}{extras}=={each.version} --hash=sha256:{stand_in(each, each.version, folder)}\n")
            stand_in(each, LATER, folder)
    (folder / "lock.txt").write_text("".join(lines))
    offline = ["--isolated", "install", "--no-index", "--find-links", folder, "--disable-pip-version-check"]
    dry = ["--dry-run", "--ignore-installed", "--no-cache-dir", "--require-hashes", "-r", folder / "lock.txt"]
    command = [sys.executable, oldest_pip / "pip", *offline, *dry]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_the_oldest_pip_resolves_a_lock(oldest_pip: Path, tmp_path: Path) -> None:
    """The lock of the package alone: `bash tests/long locks` resolves all locks."""
    done = resolve(read(LOCKS[0]), oldest_pip, tmp_path)
    assert done.returncode == 0, done.stderr
    would_install = done.stdout.partition("Would install ")[2].replace("_", "-").lower()
    here = [each for each in locked(read(LOCKS[0])).values() if each.applies({})]
    assert here and all(f"{each.name}-{each.version}" in would_install for each in here)


def closure(lock: Mapping[str, Locked], name: str) -> set[str]:
    """The names of a requirement of a lock and of all that it asks for."""
    found, waiting = set[str](), [name]
    while waiting:
        if (each := waiting.pop()) in lock and each not in found:
            found.add(each)
            waiting += [canonicalize_name(asked.name) for asked in requirements_of(each)]
    return found


def test_the_oldest_pip_refuses_a_lock_without_its_extras(oldest_pip: Path, tmp_path: Path) -> None:
    lock = {name: each for name, each in locked(read(LOCKS[1])).items() if each.applies({})}
    text = "".join(f"{lock[each].name}=={lock[each].version} --hash=sha256:0\n" for each in closure(lock, "pytest-cov"))
    done = resolve(text, oldest_pip, tmp_path)
    assert done.returncode != 0
    assert "coverage[toml]" in done.stderr
