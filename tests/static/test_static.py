"""The scripts of the dashboard: their pure parts, by Node's own test runner."""

import subprocess
from pathlib import Path

import pytest

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_the_scripts_pass_their_tests(file: Path) -> None:
    ended = subprocess.run(["node", "--test", str(file)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "# pass 0" not in ended.stdout
