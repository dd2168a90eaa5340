"""The trace of a request: what counts as a call, how calls are cut into phases, and one real request."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.trace import PHASES, Call, Recorder, in_document, markdown, phases, summary, text

ROOT = Path(__file__).parents[2]
CALLS = [
    Call(0, "wire/server/connection", "ServerConnection.data_received"),
    Call(1, "handlers/router", "Router.start_request"),
    Call(2, "policy/upstream/service", "Service.lease"),
    Call(0, "wire/client/connection", "ClientConnection.data_received"),
    Call(1, "handlers/proxied", "ProxiedRequest.on_end"),
]


def test_phases_begin_at_the_first_call_that_matches() -> None:
    table = [("head", r"wire/server"), ("choose", r"policy/\S+ Service\.lease"), ("answer", r"wire/client")]
    assert [(name, len(calls)) for name, calls in phases(CALLS, table)] == [("head", 2), ("choose", 1), ("answer", 2)]


def test_a_phase_that_no_call_matches_is_left_out() -> None:
    table = [("head", r"wire/server"), ("never", r"nothing"), ("answer", r"wire/client")]
    assert [name for name, _ in phases(CALLS, table)] == ["head", "answer"]


def test_calls_before_the_first_phase_are_kept() -> None:
    assert [name for name, _ in phases(CALLS, [("choose", r"policy/")])] == ["before", "choose"]
    assert phases([], PHASES) == []


def test_a_trace_is_indented_by_depth() -> None:
    assert "    Service.lease  [policy/upstream/service]" in text(CALLS)
    assert "    policy/upstream/service: Service.lease\n" in markdown(CALLS)
    assert summary(CALLS) == "5 calls of 5 modules, at most 3 deep."


def test_a_document_gets_the_trace_between_its_marks() -> None:
    before = "# Title\n<!-- trace -->\nold\n<!-- /trace -->\nEnd.\n"
    after = in_document(before, CALLS)
    assert after == f"# Title\n<!-- trace -->\n{markdown(CALLS)}\n<!-- /trace -->\nEnd.\n"
    assert in_document(after, CALLS) == after
    with pytest.raises(ValueError, match="unpack"):
        in_document("# Title\n", CALLS)


def test_frames_of_the_package_count_and_no_others() -> None:
    source = "def outer():\n    inner()\n    inner()\n\ndef inner():\n    len([])\n"
    ours: dict[str, object] = {}
    exec(compile(source, "/somewhere/tornado_gateway/policy/x.py", "exec"), ours)
    others: dict[str, object] = {}
    exec(compile(source, "/somewhere/other/x.py", "exec"), others)
    recorder = Recorder()
    sys.setprofile(recorder)
    try:
        others["outer"]()  # type: ignore[operator]
        ours["outer"]()  # type: ignore[operator]
    finally:
        sys.setprofile(None)
    assert recorder.calls == [
        Call(0, "policy/x", "outer"),
        Call(1, "policy/x", "inner"),
        Call(1, "policy/x", "inner"),
    ]


def test_a_request_is_traced_through_all_phases() -> None:
    command = [sys.executable, "-m", "benchmarks.trace"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    named = [line.rpartition(" (")[0] for line in done.stdout.splitlines() if line and line[0] != " "]
    assert named[:-1] == [name for name, _ in PHASES]
    assert "AccessLog.add" in done.stdout
    assert int(done.stdout.split()[-9]) <= 95, done.stdout
