"""`lprism inject`, `anomalies`, `restore` and `hosts check`, on the lab host and behind a real OpenSSH."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import host_check, injection
from tasks.addresses import host_called
from tasks.cli.faults import sentences
from tasks.fault import Fault, UndoFailed
from tasks.host import facts
from tasks.host.site import Site
from tasks.host.supervisor import Refused, Session
from tasks.remote import Address, supervise
from tasks.settings import SpecError
from tasks.spec import Host, known_scenarios
from tests.test_cli import lprism
from tests.tree import ROOT

STAND_IN = str(Path(__file__).with_name("stand_in_engine.py"))
SHORT = ("--duration", "1s")
SHAM = ("inject", "sham", "--host", "lab", *SHORT)
SQUEEZE = "cpu_compute_squeeze_out"


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> dict[str, Any]:
        """The object on standard output."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Run = Callable[..., Said]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, for every command that it runs."""
    monkeypatch.setenv("LPRISM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `lprism` with these words in this process, on a home of the test's own."""
    assert not home.exists()

    def called(*words: str) -> Said:
        code = lprism(monkeypatch, *words)
        return Said(code, *capsys.readouterr())

    return called


def spec_of(*hosts: dict[str, Any], **changes: object) -> dict[str, Any]:
    """A campaign spec on these hosts, without a fault."""
    return {
        "name": "small",
        "hosts": list(hosts),
        "engines": [{"kind": "vllm", "model": "steady", "python": STAND_IN}],
        "workload": {"input_lengths": [8], "output_lengths": [8], "concurrency": [2]},
        "scenarios": ["normal"],
        **changes,
    }


def host_of(address: Address, **changes: object) -> dict[str, Any]:
    """The host of a spec that is reached so."""
    written = {
        name: str(value) if isinstance(value, Path) else value for name, value in asdict(address).items()
    }
    del written["python"]
    return {**written, **changes}


def written(tmp_path: Path, spec: dict[str, Any]) -> str:
    """The spec as a file."""
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return str(tmp_path / "spec.yaml")


def sessions_of(folder: Path) -> Path:
    """The folder of sessions in a host's home, made as the host makes it."""
    node = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in os.uname().nodename)
    sessions = folder / ".latencyprism" / "sessions" / node
    sessions.mkdir(parents=True, exist_ok=True)
    return sessions


def mark_dirty(sessions: Path) -> None:
    """Leave the mark that a session leaves when its undo is not proved."""
    mark = {"session": "gone-1", "why": "the quota stands", "since_ns": 1}
    (sessions / "dirty").write_text(json.dumps(mark))


def forsake(sessions: Path, anomaly: str) -> Path:
    """Leave a fault behind, as a supervisor and a watchdog that both died would."""
    folder = sessions / "gone-1"
    folder.mkdir()
    site = Site(anomaly, {}, str(folder), str(folder / "fault.log"), [0], 5.0)
    (folder / "fault.json").write_text(json.dumps(asdict(site)))
    return folder


def holders(folder: Path) -> list[str]:
    """Command lines of the processes that name the folder, after at most 2 s for the last to end."""
    end = time.monotonic() + 2
    while (found := list(_holders(folder))) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _holders(folder: Path) -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and entry.parent.name != str(os.getpid()):
            yield words


def test_a_fault_by_hand_is_told_for_programs(run: Run, home: Path) -> None:
    """One object with strength, measures, windows and proofs; nothing else is said, and nothing is left."""
    words = ("--host", "lab", "--duration", "2s", "--cpus", "0", "--strength", "threads_per_cpu=1")
    for _ in range(3):  # the victim must come back to its speed, and other tenants take some of it
        said = run("inject", SQUEEZE, *words, "--json")
        told = said.told
        if told["undone"]:
            break
        assert run("restore", "lab").code == 0
    assert set(told) == {
        "host", "anomaly", "strength", "cpus", "gpus", "process_session", "detail", "metric", "unit",
        "before", "during", "after", "proved", "undone", "windows", "error",
    }  # fmt: skip
    assert told["strength"] == {"threads_per_cpu": 1, "share_pct": 100}
    assert (told["host"], told["cpus"], told["undone"]) == ("lab", [0], True)
    assert min(told["before"], told["during"], told["after"]) > 0
    lasted_s = (told["windows"]["reverted_ns"] - told["windows"]["applied_ns"]) / 1e9
    assert 2 <= lasted_s < 10
    assert said.code == (0 if told["proved"] else 1)  # how much is taken is the machine's affair
    assert (told["error"] is None) == told["proved"] == (said.err == "")
    assert holders(home) == []


def test_a_slow_measure_does_not_shorten_the_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last measure belongs to the fault's time, and what it does not take of it is held all the same."""
    measure = Fault.measure

    def slow_at_first(fault: Fault, when: str) -> float:
        if when == "before":
            time.sleep(1.5)
        return measure(fault, when)

    monkeypatch.setattr(Fault, "measure", slow_at_first)
    windows = run(*SHAM, "--json").told["windows"]
    assert windows["reverted_ns"] - windows["applied_ns"] >= 1e9


def test_a_fault_by_hand_is_told_for_people(run: Run) -> None:
    """What was done, what it did and what is proved on standard output; the phases on the other."""
    said = run(*SHAM)
    assert said.code == 0
    assert said.out.startswith("sham on lab: nothing was changed\ncpus_to_be_had in CPUs: ")
    assert said.out.endswith("\neffect proved, undo proved\n")
    phases = [line.split(" ", 1)[1] for line in said.err.splitlines()]
    assert phases[:3] == ["connect (lab)", "check (sham)", "measure before"]


TOLD = {
    "host": "lab", "anomaly": "cpu_quota", "detail": "half", "metric": "loops", "unit": "M/s", "before": 50.0,
    "during": 25.0, "after": 50.5, "proved": True, "undone": True,
    "windows": {"applied_ns": 1_795_439_502_089_000_000, "reverted_ns": 1_795_439_504_339_000_000},
}  # fmt: skip
WHEN = "applied 2026-11-23 13:11:42.089, undone 2026-11-23 13:11:44.339 (host's clock, UTC): 2.2 s"
NOT_APPLIED = {
    "detail": None, "during": None, "after": None, "proved": False, "undone": False,
    "windows": {"applied_ns": None, "reverted_ns": 1_795_439_504_339_000_000},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {},
            ["half", "loops in M/s: 50 before, 25 (-50 %) during, 50.5 (+1 %) after", WHEN,
             "effect proved, undo proved"],
        ),
        (NOT_APPLIED, ["not applied", "loops in M/s: 50 before", "effect NOT proved, undo NOT proved"]),
        (
            {"before": 0.0, "during": 1.0, "after": 0.0, "undone": False},
            ["half", "loops in M/s: 0 before, 1 during, 0 after", WHEN, "effect proved, undo NOT proved"],
        ),
    ],
    ids=["as it should be", "could not be applied", "from nothing"],
)  # fmt: skip
def test_the_sentences_say_no_more_than_is_known(changes: dict[str, Any], lines: list[str]) -> None:
    """What was not measured is not told, and what is not proved is said to be so."""
    assert sentences({**TOLD, **changes}) == [f"cpu_quota on lab: {lines[0]}", *lines[1:]]


def test_an_undo_that_is_not_proved_is_a_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is printed with the reason in it, and the exit code is 1."""

    def not_proved(_: Fault) -> None:
        raise UndoFailed("the undo of sham is not proved: the host is dirty")

    monkeypatch.setattr(Fault, "judge", not_proved)
    said = run(*SHAM, "--json")
    assert (said.code, said.told["undone"]) == (1, False)
    assert said.told["error"] == "the undo of sham is not proved: the host is dirty"
    assert said.err == "lprism: the undo of sham is not proved: the host is dirty\n"


def test_a_fault_that_ends_by_itself_is_a_failure(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is undone and told as far as it went, and never passes for one that worked."""
    apply = Fault.apply

    def apply_and_die(fault: Fault) -> None:
        apply(fault)
        fault.supervisor.ask("fault_revert")  # as when its program ended: nothing is on any more

    monkeypatch.setattr(Fault, "apply", apply_and_die)
    said = run(*SHAM, "--json")
    assert (said.code, said.told["proved"], said.told["during"]) == (1, False, None)
    assert said.told["error"].startswith("sham ended before its time: ")
    assert said.told["windows"]["reverted_ns"] > said.told["windows"]["applied_ns"]
    assert holders(home) == []


def test_a_fault_that_cannot_be_applied_is_a_refusal(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shows only in the doing is told in the same line as what is missing, and nothing is left on."""

    def refused(fault: Fault) -> None:
        fault.on = True
        fault.supervisor.ask("run_folder", run_id="../x")

    monkeypatch.setattr(Fault, "apply", refused)
    assert run(*SHAM, "--json") == Said(1, "", "lprism: lab cannot have sham: '../x' is no run id\n")
    assert holders(home) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["cpu_compute_squeeze", "--host", "lab", *SHORT], "did you mean 'cpu_compute_squeeze_out'?"),
        (["../injectors/sham", "--host", "lab", *SHORT], "unknown anomaly"),
        (["normal", "--host", "lab", *SHORT], "unknown anomaly 'normal'"),
        (["sham", "--host", "lab", "--duration", "500ms"], "a fault lasts from 1 s"),
        (["sham", "--host", "lab", "--duration", "0s"], "a fault lasts from 1 s"),
        (["sham", "--host", "lab", "--duration", "25h"], "a fault lasts from 1 s"),
        (["sham", "--host", "lab", "--duration", "30"], "such as 30s"),
        (["sham", "--host", "lab", "--duration=-3s"], "such as 30s"),
        (["sham", "--host", "lab", *SHORT, "--strength", "x=1"], "unknown strength 'x'"),
        (["sham", "--host", "lab", *SHORT, "--strength", "x"], "is not KEY=VALUE"),
        (["sham", "--host", "lab", *SHORT, "--cpus", "0-1"], "--cpus is '0-1'"),
        (["sham", "--host", "lab", *SHORT, "--gpus", ""], "--gpus is ''"),
        (["sham", "--host", "lab", *SHORT, "--pid", "0"], "--pid"),
        (["sham", "--host", "-oProxyCommand=x", *SHORT], "is no host"),
        (["sham", *SHORT], "--host"),
        (["sham", "--host", "lab"], "--duration"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_what_cannot_be_meant_is_refused_before_anything_is_dialled(
    words: list[str], why: str, run: Run, home: Path
) -> None:
    """Exit code 2, with the word that is wrong; no host was started for it."""
    said = run("inject", *words)
    assert (said.code, said.out) == (2, "")
    assert why in " ".join(said.err.split())
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "strength"),
    [
        ([], {"threads_per_cpu": 2, "share_pct": 100}),
        (["share_pct=5.0", "threads_per_cpu=3"], {"threads_per_cpu": 3, "share_pct": 5}),
        (["share_pct=0"], "strength share_pct is 0, not a whole number from 1 to 100"),
        (["share_pct=nan"], "strength share_pct is nan, not a whole number from 1 to 100"),
        (["share_pct=half"], "strength share_pct is 'half', not a whole number from 1 to 100"),
        (["share_pct=5", "share_pct=6"], "strength 'share_pct' is given twice"),
        (["threads=5"], "did you mean 'threads_per_cpu'?"),
    ],
    ids=str,
)
def test_a_strength_is_complete_and_in_range(words: list[str], strength: dict[str, Any] | str) -> None:
    """Defaults are filled in, and what is out of range is refused with the range."""
    if isinstance(strength, str):
        with pytest.raises(SpecError) as refused:
            injection.strength_from(SQUEEZE, words)
        assert strength in str(refused.value)
    else:
        assert injection.strength_from(SQUEEZE, words) == strength


@pytest.mark.parametrize(("text", "seconds"), [("1500ms", 1.5), ("30s", 30), ("2m", 120), ("1.5h", 5400)])
def test_a_duration_has_its_unit(text: str, seconds: float) -> None:
    """Milliseconds, seconds, minutes and hours."""
    assert injection.duration_s(text) == seconds


def test_faults_run_only_where_they_are_allowed(run: Run, home: Path, tmp_path: Path) -> None:
    """An address needs --allow-faults, and a spec's host its own word, which no option outdoes."""
    dead = ("inject", "sham", "--host", "127.0.0.1:1", *SHORT)
    said = run(*dead)
    why = "127.0.0.1 cannot have sham: if this host may be disturbed, say --allow-faults"
    assert (said.code, said.err) == (1, f"lprism: {why}\n")
    assert "127.0.0.1 cannot be reached" in run(*dead, "--allow-faults").err
    spec = written(tmp_path, spec_of({"name": "dead", "address": "127.0.0.1", "port": 1}))
    said = run("inject", "sham", "--host", "dead", "--spec", spec, *SHORT, "--allow-faults")
    assert said.code == 1
    assert f"set allow_faults: true for it in {spec}" in said.err
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--cpus", "4095"], f"it has no CPU 4095: usable are {facts.usable_cpus()}"),
        (["--pid", "4194304"], "no process has pid 4194304"),  # above the kernel's highest
    ],
)
def test_a_host_that_cannot_have_the_fault_says_what_is_missing(
    words: list[str], why: str, run: Run, home: Path
) -> None:
    """One line, exit code 1, and nothing on standard output."""
    assert run(*SHAM, "--json", *words) == Said(1, "", f"lprism: lab cannot have sham: {why}\n")
    assert holders(home) == []


def test_a_host_without_a_compiler_refuses_the_squeeze(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The injector's own words reach the user, with the remedy."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    said = run("inject", SQUEEZE, "--host", "lab", *SHORT, "--json")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"lprism: lab cannot have {SQUEEZE}: no C compiler (cc, gcc or clang) on the ")


def test_a_fault_is_not_for_ourselves(tmp_path: Path) -> None:
    """The process session of the supervisor is refused, and so is that of the kernel."""
    for pid in (os.getpid(), *([2] if Path("/proc/2").exists() else [])):
        with pytest.raises(Refused, match=f"pid {pid} is in no process session of its own"):
            Session(tmp_path).session_of(pid)


def test_a_server_is_named_by_any_of_its_processes(run: Run, home: Path) -> None:
    """The fault gets the process session of the pid, whichever of its processes that is."""
    shell = ["sh", "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        assert server.stdout
        worker = server.stdout.readline().strip()
        said = run(*SHAM, "--json", "--pid", worker)
        os.killpg(server.pid, signal.SIGKILL)
    assert (said.code, said.told["process_session"]) == (0, server.pid)
    (plan,) = sessions_of(home / "lab" / "host").glob("inject-*/fault-plan.json")
    assert json.loads(plan.read_text())["target"] == server.pid


@pytest.mark.skipif(len(facts.usable_cpus()) == 1, reason="it takes two CPUs to keep off one")
def test_we_keep_off_the_cpus_of_the_fault() -> None:
    """On this machine our own processes get the other CPUs, for as long as it takes."""
    bound = os.sched_getaffinity(0)
    first, *others = facts.usable_cpus()
    with injection._out_of_the_way(Host(name="lab", engine_cpus=[first])):
        assert os.sched_getaffinity(0) == set(others)
    assert os.sched_getaffinity(0) == bound
    with injection._out_of_the_way(Host(name="far", address="far", engine_cpus=[first])):
        assert os.sched_getaffinity(0) == bound


def test_ctrl_c_undoes_the_fault_at_once(run: Run, home: Path) -> None:
    """Exit code 130, two lines that say so, no program left, and a clean host."""
    words = ["inject", SQUEEZE, "--host", "lab", "--duration", "30s"]
    command = [sys.executable, "-m", "tasks.cli.main", *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        while "hold for" not in (line := child.stderr.readline()):
            assert line, "it ended before it held"
        assert any("/squeeze burn" in words for words in _holders(home))
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=60)[1].splitlines()
    assert child.returncode == 130
    assert said[-2:] == [f"lprism: {SQUEEZE} on lab was undone at once", "lprism: interrupted"]
    assert holders(home) == []
    assert run("restore", "lab") == Said(0, "nothing to do: lab is clean\n", "")


def test_a_host_of_a_spec_is_reached_as_the_spec_says(
    sshd: Address, run: Run, home: Path, tmp_path: Path
) -> None:
    """Its identity file, its known hosts, its CPUs and its word on faults."""
    first = facts.usable_cpus()[:1]
    host = host_of(sshd, name="gpu-01", allow_faults=True, engine_cpus=first)
    spec = written(tmp_path, spec_of(host))
    told = run("inject", "sham", "--host", "gpu-01", "--spec", spec, *SHORT, "--json").told
    assert (told["host"], told["cpus"], told["error"]) == ("gpu-01", first, None)
    said = run("inject", "sham", "--host", "gpu-1", "--spec", spec, *SHORT)
    assert (said.code, "did you mean 'gpu-01'?" in said.err) == (2, True)
    assert run("restore", "gpu-01", "--spec", spec, "--json").told == {
        "host": "gpu-01", "found": [], "left": [],
    }  # fmt: skip
    assert not home.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lab", ("lab", None, None, None, True)),
        ("gpu-01", ("gpu-01", "gpu-01", None, None, False)),
        ("me@10.0.0.1:2222", ("10.0.0.1", "10.0.0.1", "me", 2222, False)),
        ("[fe80::1%eth0]:22", ("fe80::1%eth0", "fe80::1%eth0", None, 22, False)),
        ("-lroot", None),
        ("::1", None),
        ("a:0", None),
        ("a:65536", None),
        ("a b", None),
        ("", None),
    ],
)
def test_a_host_is_called_as_ssh_calls_it(text: str, expected: tuple[object, ...] | None) -> None:
    """`lab`, an alias, or [user@]address[:port]; anything else is refused with these forms."""
    if expected is None:
        with pytest.raises(SpecError, match=r"\[user@\]address\[:port\]"):
            host_called(text)
    else:
        host = host_called(text)
        assert (host.name, host.address, host.user, host.port, host.allow_faults) == expected


def test_every_anomaly_is_listed_with_its_strength(run: Run) -> None:
    """Name, first line of what it is, and each parameter with default, range and meaning."""
    listed = {one["anomaly"]: one for one in json.loads(run("anomalies", "--json").out)}
    assert sorted(listed) == sorted(set(known_scenarios()) - {"normal"})
    assert listed[SQUEEZE]["strength"][1] == {
        "name": "share_pct", "default": 100, "lowest": 1, "highest": 100, "whole": True,
        "meaning": "share of the time that each thread burns",
    }  # fmt: skip
    assert all(one["meaning"].endswith(".") for one in listed.values())
    lines = run("anomalies").out.splitlines()
    told = "share_pct=...  share of the time that each thread burns: 1 to 100, default 100"
    assert f"    --strength {told}" in lines
    assert set(listed) <= set(lines)


def test_a_dirty_host_takes_nothing_until_it_is_restored(run: Run, home: Path) -> None:
    """The refusal names the remedy; the remedy says what it found; then the host is clean."""
    sessions = sessions_of(home / "lab" / "host")
    mark_dirty(sessions)
    folder = forsake(sessions, "sham")
    said = run(*SHAM, "--json")
    assert (said.code, said.out) == (1, "")
    assert "lab: this host is dirty: session gone-1: the quota stands; lprism restore" in said.err
    found = "lab: found: session gone-1: the quota stands\nall of it is undone: lab is clean\n"
    assert run("restore", "lab") == Said(0, found, "")
    assert not (sessions / "dirty").exists()
    assert not (folder / "fault.json").exists()
    assert run("restore", "lab") == Said(0, "nothing to do: lab is clean\n", "")


def test_what_cannot_be_undone_is_named_and_stays(run: Run, home: Path) -> None:
    """A fault that nobody here knows how to undo: exit code 1, and the host is dirty as before."""
    folder = forsake(sessions_of(home / "lab" / "host"), "fault_of_tomorrow")
    for _ in range(2):
        said = run("restore", "lab", "--json")
        assert said.told["left"] == ["gone-1: fault: there is no anomaly 'fault_of_tomorrow'"]
        assert said.err == f"lprism: lab is still dirty: {said.told['left'][0]}\n"
        assert said.code == 1
    assert (folder / "fault.json").exists()


def test_a_host_in_use_is_not_restored(sshd: Address, run: Run, tmp_path: Path) -> None:
    """A restore would end a running campaign's fault: it is refused, naming who has the host."""
    spec = written(tmp_path, spec_of(host_of(sshd)))
    with supervise(sshd, "busy"):
        said = run("restore", "sshd", "--spec", spec)
    assert said.code == 1
    assert "sshd: another campaign has this host: busy, supervisor pid" in said.err


def checks(run: Run, spec: str) -> tuple[int, dict[tuple[str, str], dict[str, Any]]]:
    """Exit code and findings of `lprism hosts check`, by host and check."""
    said = run("hosts", "check", spec, "--json")
    return said.code, {(row["host"], row["check"]): row for row in json.loads(said.out)}


def test_a_dead_host_does_not_stop_the_look_at_the_others(sshd: Address, run: Run, tmp_path: Path) -> None:
    """Every question is asked of the good one, the dead one fails one check, and the exit code is 1."""
    good = host_of(sshd, name="good", allow_faults=True)
    dead = host_of(replace(sshd, port=1), name="dead", allow_faults=True)
    scenarios = ["normal", "sham", {"anomaly": SQUEEZE, "strength": {"share_pct": 50}}]
    spec = written(tmp_path, spec_of(dead, good, scenarios=scenarios))
    code, found = checks(run, spec)
    assert [name for host, name in found if host == "good"] == [
        "ssh", "host key", "python", "clean", "lease", "clock", "disk", "cpus", "engine vllm steady",
        "faults", "sham", f"{SQUEEZE} share_pct=50",
    ]  # fmt: skip
    assert [key for key, row in found.items() if not row["passed"]] == [("dead", "ssh")]
    assert "cannot be reached" in found["dead", "ssh"]["found"]
    assert code == 1
    said = run("hosts", "check", spec)
    assert (said.code, said.err) == (1, "lprism: 1 of 13 checks failed, on dead\n")
    assert [line.split()[2] for line in said.out.splitlines() if line.split()[:1] == ["dead"]] == ["FAIL"]
    assert run("hosts", "check", written(tmp_path, spec_of(good))).code == 0


def test_what_a_host_lacks_is_told_with_the_remedy(sshd: Address, run: Run, tmp_path: Path) -> None:
    """A CPU, a GPU, an engine and a free port that are not there: each fails its own check alone."""
    engines = [
        {"kind": "vllm", "model": "steady", "python": STAND_IN, "port": sshd.port},
        {"kind": "vllm", "model": "none", "python": "/none/bin/python"},
    ]
    host = host_of(sshd, engine_cpus=[0, 4095], gpus=[99])
    code, found = checks(run, written(tmp_path, spec_of(host, engines=engines)))
    failed = {name: row["found"] for (_, name), row in found.items() if not row["passed"]}
    assert set(failed) == {"cpus", "gpus", "engine vllm none", "port"}
    assert "not 4095" in failed["cpus"]
    assert "not 99" in failed["gpus"]
    assert "/none/bin/python" in failed["engine vllm none"]
    assert f"port {sshd.port} is in use by sshd" in failed["port"]
    assert all(row["remedy"] for row in found.values() if not row["passed"])
    assert found["sshd", "faults"]["passed"]  # none is wanted, so none need be allowed
    assert code == 1


def test_a_dirty_host_and_one_in_use_fail_in_those_words(sshd: Address, run: Run, tmp_path: Path) -> None:
    """The lease and the mark are checks of their own, each with its remedy."""
    spec = written(tmp_path, spec_of(host_of(sshd)))
    with supervise(sshd, "busy") as supervisor:
        sessions = Path(supervisor.folder).parent
        _, found = checks(run, spec)
        assert list(found) == [("sshd", "lease")]
        assert "busy, supervisor pid" in found["sshd", "lease"]["found"]
    mark_dirty(sessions)
    _, found = checks(run, spec)
    assert list(found) == [("sshd", "clean")]
    assert found["sshd", "clean"]["remedy"] == "lprism restore sshd"
    assert (sessions / "dirty").exists()  # looking changes nothing


def test_a_host_that_is_not_known_fails_with_the_reason(sshd: Address, run: Run, tmp_path: Path) -> None:
    """A host key is never added by a check."""
    (tmp_path / "known_hosts").write_text("")
    unknown = host_of(replace(sshd, known_hosts=tmp_path / "known_hosts"))
    code, found = checks(run, written(tmp_path, spec_of(unknown)))
    assert (code, list(found)) == (1, [("sshd", "host key")])
    assert "known_hosts" in found["sshd", "host key"]["found"]
    assert (tmp_path / "known_hosts").read_text() == ""


@pytest.mark.parametrize(
    ("offset_s", "unsure_s", "passed"), [(0.5, 0.0, True), (-3.0, 2.5, True), (-3.0, 0.1, False)]
)
def test_a_clock_that_is_off_is_told(
    offset_s: float, unsure_s: float, passed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offset counts only as far as it exceeds half a round trip."""
    monkeypatch.setattr(host_check, "clock_offset_s", lambda _: (offset_s, unsure_s))
    assert host_check._clock(None)[1] is passed  # type: ignore[arg-type]  # the offset is given


def test_the_clock_of_this_machine_agrees_with_itself(sshd: Address) -> None:
    """Host and orchestrator are one machine here: no offset beyond the round trip's uncertainty."""
    with supervise(sshd, "clock") as supervisor:
        offset_s, unsure_s = host_check.clock_offset_s(supervisor)
    assert abs(offset_s) <= unsure_s < 1


def test_a_login_script_that_talks_does_no_harm(sshd: Address, run: Run, tmp_path: Path) -> None:
    """What a shell prints before our program speaks is passed over."""
    with supervise(sshd, "first") as supervisor:
        there = Path(supervisor.folder).parents[3]
    (there / ".bashrc").write_text('echo welcome; echo \'{"id": "welcome"}\'; echo 7\n')
    spec = written(tmp_path, spec_of(host_of(sshd, allow_faults=True)))
    assert run("inject", "sham", "--host", "sshd", "--spec", spec, *SHORT, "--json").told["undone"]
