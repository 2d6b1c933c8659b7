"""The campaign spec: what is accepted, and what somebody reads who has written something else."""

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tasks import spec as specs
from tasks import spec_form
from tasks.engine_spec import Container, Engine, ProbePoint
from tasks.host.probe.latencyprism_probe.calls import Call
from tasks.settings import SpecError
from tasks.spec import CampaignSpec, Host, Limits, Slo, Windows, Workload, load_spec, parse_spec

SMALL: dict[str, Any] = yaml.safe_load("""
name: first
hosts: [{name: lab, allow_faults: true}]
engines: [{kind: vllm, model: tiny, args: {enforce-eager: true, max-num-seqs: 16}}]
workload: {input_lengths: [32], output_lengths: [64], concurrency: [4]}
scenarios: [normal, {anomaly: cpu_compute_squeeze_out, strength: {threads_per_cpu: 1}}]
repetitions: 3
""")


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the small spec with one place set, such as `hosts.0.port`."""
    spec: Any = copy.deepcopy(SMALL)
    *way, last = path.split(".")
    place = spec
    for part in way:
        place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
    if isinstance(place, list):
        place.insert(int(last), value)
    else:
        place[last] = value
    return dict(spec)


def refusal(content: object) -> str:
    """Return what is said about a spec that cannot be used."""
    with pytest.raises(SpecError) as error:
        parse_spec(content, "s.yaml")
    return str(error.value)


def test_a_small_spec_gets_the_defaults() -> None:
    """What a spec leaves out has a stated value."""
    spec = parse_spec(SMALL)
    assert (spec.seed, spec.repetitions, [mode.name for mode in spec.modes]) == (7, 3, ["sentinel"])
    assert spec.deepdive is None
    assert spec.windows.total_s == 15 + 10 + 10 + 10
    assert spec.limits.model_dump() == {
        "cell_timeout_s": 600.0,
        "max_consecutive_failures": 3,
        "busy_host": "refuse",
    }
    assert [scenario.name for scenario in spec.scenarios] == ["normal", "cpu_compute_squeeze_out"]
    assert spec.hosts[0].address is None


def test_every_supported_key_is_taken() -> None:
    """The design's spec, restricted to what works, parses as it stands."""
    spec = parse_spec(
        yaml.safe_load("""
name: nightly-a100
hosts:
  - {name: gpu-01, address: gpu-01.example, user: bench, port: 2222, identity_file: ~/.ssh/id, known_hosts: k,
     gpus: [0, 1], group: a100, allow_faults: true, engine_cpus: [0, 1], our_cpus: [2]}
engines:
  - {kind: vllm, model: Qwen/Qwen3-32B, args: {tensor-parallel-size: 8, config: {level: 3}, lora: [a]},
     python: /opt/vllm/bin/python, port: 8000, env: {OMP_NUM_THREADS: "1"}}
workload: {input_lengths: [128, 256], output_lengths: [128], concurrency: [1, 8]}
scenarios: [normal, cpu_compute_squeeze_out]
modes: [sentinel]
windows: {warmup_s: 0, baseline_s: 10, fault_s: 10.5, recovery_s: 10}
slo: {ttft_ms: 500, tpot_ms: 50}
repetitions: 3
seed: 7
limits: {cell_timeout_s: 600, max_consecutive_failures: 3, busy_host: wait}
""")
    )
    assert spec.hosts[0].port == 2222
    assert spec.engines[0].args["tensor-parallel-size"] == 8
    assert spec.engines[0].given_env == {"OMP_NUM_THREADS": "1"}


def test_a_dumped_spec_is_a_spec() -> None:
    """What Prefect stores and hands back is the same spec."""
    spec = parse_spec(SMALL)
    dumped = spec.model_dump(mode="json")
    assert dumped["scenarios"] == SMALL["scenarios"]
    assert parse_spec(dumped) == spec
    assert CampaignSpec.model_validate_json(spec.model_dump_json()) == spec


def test_deep_captures_are_said_as_in_the_design() -> None:
    """By name alone, or on chosen workloads and with what is captured; written back as it was."""
    deep = {"workloads": ["in32_out64_conc4"], "stack": True}
    spec = parse_spec(changed("modes", ["sentinel", {"deepdive": deep}]))
    assert [mode.name for mode in spec.modes] == ["sentinel", "deepdive"]
    assert spec.deepdive is not None
    assert (spec.deepdive.workloads, spec.deepdive.stack) == (["in32_out64_conc4"], True)
    assert spec.model_dump(mode="json")["modes"] == ["sentinel", {"deepdive": deep}]
    forms: list[object] = ["deepdive", {"deepdive": None}, {"deepdive": {}}]
    for written in forms:
        spec = parse_spec(changed("modes", [written]))
        assert spec.model_dump(mode="json")["modes"] == ["deepdive"]
        assert CampaignSpec.model_validate_json(spec.model_dump_json()) == spec


def test_an_installed_profiler_is_a_command_with_places() -> None:
    """What stands in braces is filled in, whatever it is, as a part of one word."""
    profiler = {"command": ["/opt/p", "--out={output}", "{session}", '{"json": 1}'], "output": "r.json"}
    spec = parse_spec(changed("modes", [{"deepdive": {"profiler": profiler}}]))
    assert spec.deepdive is not None
    assert spec.deepdive.profiler is not None
    words = spec.deepdive.profiler.words(output="/a b/$(id)", session=7, url="u")
    assert words == ["/opt/p", "--out=/a b/$(id)", "7", '{"json": 1}']


def test_a_secret_is_written_nowhere() -> None:
    """Values of `env` and arguments with a secret's name are masked; a masked value is not taken for one."""
    args = {"api-key": "s3cret", "max-num-batched-tokens": 8, "tokenizer": "t", "kv": {"hf_token": "s3cret"}}
    spec = parse_spec(
        changed("engines.0", {**SMALL["engines"][0], "args": args, "env": {"HF_TOKEN": "s3cret"}})
    )
    assert "s3cret" not in str(spec.engines[0].env) + spec.engines[0].model_dump_json(exclude={"args"})
    assert specs.masked(spec.engines[0].args) == {**args, "api-key": "***", "kv": {"hf_token": "***"}}
    assert spec.engines[0].given_env == {"HF_TOKEN": "s3cret"}
    assert "HF_TOKEN was masked when this was written down" in refusal(spec.model_dump(mode="json"))


def test_prefects_form_takes_what_a_file_may_hold() -> None:
    """The JSON schema that Prefect checks a spec by allows every form of a scenario, and no misspelt key."""
    form = jsonschema.Draft202012Validator(CampaignSpec.model_json_schema())
    assert list(form.iter_errors(SMALL)) == []
    assert list(form.iter_errors(parse_spec(SMALL).model_dump(mode="json"))) == []
    assert list(form.iter_errors(changed("modes", ["sentinel", {"deepdive": {"stack": True}}]))) == []
    assert list(form.iter_errors(changed("modes", [{"deepdiv": {}}])))
    assert list(form.iter_errors(changed("repetition", 3)))
    assert list(form.iter_errors(changed("scenarios.0", {"anomly": "normal"})))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("repetition", 3, "repetition: unknown key 'repetition', did you mean 'repetitions'?"),
        ("hosts.0.alow_faults", True, "unknown key 'alow_faults', did you mean 'allow_faults'?"),
        ("windows.warmup", 3, "windows.warmup: unknown key 'warmup', did you mean 'warmup_s'?"),
        ("slo.tftt_ms", 3, "slo.tftt_ms: unknown key 'tftt_ms', did you mean 'ttft_ms'?"),
        ("limits.busyhost", "wait", "limits.busyhost: unknown key 'busyhost', did you mean 'busy_host'?"),
        ("workload.inputs", [1], "(there are: input_lengths, output_lengths, concurrency)"),
        ("engines.0.kind", "vlm", "unknown engine 'vlm', did you mean 'vllm'? (there are: sglang, vllm"),
        ("engines.0.str", 1, "unknown key 'str'"),
        ("scenarios.0", "cpu_compute_sqeze", "did you mean 'cpu_compute_squeeze_out'?"),
        ("scenarios.0", {"anomly": "normal"}, "unknown key 'anomly', did you mean 'anomaly'?"),
        ("modes", ["sentinal"], "unknown mode 'sentinal', did you mean 'sentinel'?"),
        ("modes", [{"deepdiv": {}}], "unknown mode 'deepdiv', did you mean 'deepdive'?"),
        ("modes", ["deepdive", {"deepdive": {"stack": True}}], "deepdive is there twice"),
        ("modes", [{"deepdive": {"workload": []}}], "unknown key 'workload', did you mean 'workloads'?"),
        ("modes", [{"deepdive": {"workloads": ["in32_out64_conc8"]}}],
         "unknown workload 'in32_out64_conc8', did you mean 'in32_out64_conc4'?"),
        ("modes", [{"deepdive": {"profiler": {"command": []}}}], "modes[0].deepdive.profiler.command"),
        ("modes", [{"deepdive": {"profiler": {"command": ["p", "{pid}"]}}}], "unknown place 'pid'"),
        ("modes", [{"deepdive": {"profiler": {"command": ["p"], "output": "../x"}}}], "cannot stand here"),
        ("windows.deep_iterations", 0, "windows.deep_iterations"),
    ],
)  # fmt: skip
def test_a_misspelt_word_is_named_with_the_nearest_valid_one(path: str, value: object, said: str) -> None:
    """Nothing that is misspelt is passed over, and the answer says what was meant."""
    message = refusal(changed(path, value))
    assert message.startswith("s.yaml: ")
    assert said in message


def test_an_engine_that_campaigns_do_not_run_is_refused_in_so_many_words() -> None:
    """The traces of xDiT are read and its command lines known; a campaign has no load for it."""
    assert "engine 'xdit' is not run by campaigns yet" in refusal(changed("engines.0.kind", "xdit"))


URL = "http://127.0.0.1:8000"
ATTACHED: dict[str, Any] = {"kind": "vllm", "model": "m", "attach": URL, "log": "/var/log/vllm.log"}


def test_a_server_may_be_somebody_elses_or_in_a_container() -> None:
    """Each way of writing it is taken, from a file and from Prefect's form, and written back as it was."""
    engines: list[dict[str, Any]] = [
        {**ATTACHED, "python": "/opt/v/bin/python", "allow_faults": True},
        {"kind": "vllm", "model": "m", "container": "serving", "client_python": "/opt/new/bin/python"},
        {"kind": "sglang", "model": "m", "container": {"image": "sglang:v0.5.5", "options": ["--ipc=host"]}},
        {"kind": "vllm", "model": "m", "probe_points": [{"point": "a.b:C.f", "attributes": ["args.1.x"]}]},
    ]
    spec = parse_spec({**SMALL, "engines": engines})
    form = jsonschema.Draft202012Validator(CampaignSpec.model_json_schema())
    assert list(form.iter_errors({**SMALL, "engines": engines})) == []
    dumped = spec.model_dump(mode="json")
    unset: dict[str, Any] = {"args": {}, "python": None, "port": None, "env": {}}
    assert dumped["engines"] == [{**unset, **engine} for engine in engines]
    assert parse_spec(dumped) == spec


def test_a_point_that_the_spec_takes_is_one_for_the_probe() -> None:
    """What is wrong with a point is said before anything runs."""
    points = ["a:f", "a.b_1:C.f", "a..b:f", "a:f()", "a", "1a:f", "a:f.", "a b:f"]
    attributes = ["args.0", "args.1.x.0", "kwargs.n", "result", "result.x", "args", "self.x", "result..x"]
    taken = []
    for entry in [(one, "result") for one in points] + [("a:f", one) for one in attributes]:
        written = {"point": entry[0], "attributes": [entry[1]]}
        try:
            parse_spec(changed("engines.0.probe_points", [written]))
        except SpecError as error:
            assert "engines[0].probe_points[0]" in str(error)  # noqa: PT017  the others are taken
        else:
            Call(object(), **written)  # type: ignore[arg-type]  # it records nothing here
            taken.append(entry)
    assert taken[:2] == [("a:f", "result"), ("a.b_1:C.f", "result")]
    assert [attribute for _, attribute in taken[2:]] == attributes[:5]


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"args": {"a": 1}}, f"the server at {URL} is somebody else's: leave out args"),
        ({"port": 1}, "leave out port"),
        ({"container": "c"}, "leave out container"),
        ({"probe_points": [{"point": "a:f"}]}, "leave out probe_points"),
        ({"kind": "sglang"}, "`log` is vLLM's"),
        ({"attach": None}, "`log` is for a server that is attached"),
        ({"attach": "http://u:p@h"}, "engines[0].attach"),
        ({"attach": "http://h/x"}, "engines[0].attach"),
        ({"attach": "ftp://h"}, "engines[0].attach"),
        ({}, f"is a fault, and vllm {URL} is somebody else's server: write `allow_faults: true`"),
    ],
)
def test_a_server_of_somebody_else_is_not_ours_to_change(engine: dict[str, Any], said: str) -> None:
    """What would start, move or disturb it is refused, a fault unless it is allowed in so many words."""
    assert said in refusal({**SMALL, "engines": [{**ATTACHED, **engine}]})


def test_a_server_of_somebody_else_is_not_profiled() -> None:
    """Its own profiler is not started; an installed one may record it."""
    spec = {**SMALL, "scenarios": ["normal"], "engines": [ATTACHED], "modes": ["deepdive"]}
    assert "only an installed `profiler` captures it" in refusal(spec)
    assert parse_spec({**spec, "modes": [{"deepdive": {"profiler": {"command": ["p"]}}}]}).deepdive


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({}, "a container is the name of one that runs, or {image: ..., options: [...]}"),
        ({"name": "a", "image": "b"}, "a container is the name of one that runs"),
        ({"name": "a", "options": ["--x"]}, "`options` are of a container that is made from an image"),
        ({"imag": "b"}, "unknown key 'imag', did you mean 'image'?"),
        ({"image": "-v"}, "image"),
        ({"image": "b", "options": ["rm"]}, "options[0]"),
        ("-c", "name"),
    ],
)
def test_a_container_is_one_thing_or_the_other(container: object, said: str) -> None:
    """What cannot be meant is named, and no word of it becomes an option of docker."""
    assert said in refusal(changed("engines.0.container", container))


@pytest.mark.parametrize(
    ("strength", "said"),
    [
        ({"threads_per_cpu": 65}, "strength threads_per_cpu is 65, not a whole number from 1 to 64"),
        ({"threads_per_cpu": True}, "strength threads_per_cpu is True, not a whole number"),
        ({"thread_per_cpu": 2}, "unknown strength 'thread_per_cpu'; .* did you mean 'threads_per_cpu'?"),
    ],
)
def test_a_strength_is_checked_before_anything_runs(strength: dict[str, object], said: str) -> None:
    """The anomaly's own table of strengths says what it takes, when the spec is read."""
    scenario = {"anomaly": "cpu_compute_squeeze_out", "strength": strength}
    assert re.search(said, refusal(changed("scenarios.0", scenario)))


def test_sham_is_a_scenario_without_a_strength() -> None:
    """It has the life of a fault and changes nothing."""
    assert parse_spec(changed("scenarios.0", "sham")).scenarios[0].name == "sham"
    assert "sham knows none" in refusal(changed("scenarios.0", {"anomaly": "sham", "strength": {"mhz": 1}}))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("hosts.0.allow_faults", False, "'cpu_compute_squeeze_out' is a fault, and host 'lab' does not"),
        ("hosts.0.allow_faults", "yes", "hosts[0].allow_faults: 'yes' is wrong"),
        ("hosts.0.address", "10.0.0.1", "'lab' is started by the campaign itself: leave out address"),
        ("hosts.1", {"name": "gpu"}, "hosts[1]: host 'gpu' needs an address"),
        ("hosts.1", {"name": "gpu", "address": "-oProxyCommand=x"}, "hosts[1].address"),
        ("hosts.1", {"name": "gpu", "address": "a b"}, "hosts[1].address"),
        ("hosts.1", {"name": "lab", "allow_faults": True}, "two hosts are called 'lab'"),
        ("hosts.0.engine_cpus", [], "hosts[0].engine_cpus"),
        ("name", "../up", "name: '../up' has characters that cannot stand here"),
        ("name", 2026, "name: 2026 is wrong: should be text; put it in quotes"),
        ("workload.concurrency", 4, "workload.concurrency: 4 is wrong: should be a list"),
        ("workload.concurrency", [], "workload.concurrency"),
        ("workload.concurrency", [4, 4], "4 is there twice"),
        ("workload.input_lengths", [True], "workload.input_lengths[0]: True is wrong"),
        ("workload.input_lengths", [0], "workload.input_lengths[0]: 0 is wrong"),
        ("scenarios.0", "normal", "normal is there twice"),
        ("scenarios.0", None, "a scenario is a name, or {anomaly: NAME, strength: {...}}"),
        ("scenarios.0", {"anomaly": None}, "a scenario is a name, or {anomaly: NAME, strength: {...}}"),
        ("scenarios.0", {"anomaly": "normal", "strength": {"a": 1}}, "'normal' injects nothing"),
        ("engines.0.args", {"--tp": 8}, "engines[0].args.--tp"),
        ("engines.0.args", {"x": float("nan")}, "engines[0].args.x: nan cannot stand here"),
        ("engines.0.env", {"A B": "1"}, "engines[0].env.A B"),
        ("engines.0.env", {"A": "1\0"}, "the value of A has a NUL character"),
        ("engines.0.model", "a\nb", "engines[0].model"),
        ("engines.0.model", "-x", "engines[0].model"),
        ("windows.baseline_s", float("inf"), "windows.baseline_s: inf is wrong"),
        ("windows.baseline_s", 0, "windows.baseline_s: 0 is wrong"),
        ("windows.fault_s", 600, "but the windows of one cell already take 635 s"),
        ("limits.busy_host", "ask", "limits.busy_host"),
        ("seed", -1, "seed: -1 is wrong"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_named_with_its_place(path: str, value: object, said: str) -> None:
    """A spec is refused before anything is started, and the place that is wrong is in the message."""
    assert said in refusal(changed(path, value))


def test_one_cpu_is_not_given_away_twice() -> None:
    """A CPU is the engine's or ours, since sharing it blurs what is measured."""
    host = {"name": "lab", "allow_faults": True, "engine_cpus": [0, 1], "our_cpus": [1]}
    assert "CPU 1 is in both" in refusal({**SMALL, "hosts": [host]})


def test_a_message_has_two_lines_at_most_and_names_the_other_places() -> None:
    """Many mistakes do not make a wall of text."""
    wrong = {**SMALL, "seed": -1, "name": 3, "reptitions": 3, "modes": 4}
    first, second = refusal(wrong).splitlines()
    assert "did you mean 'repetitions'" in first
    assert second.startswith("also wrong: ")
    assert set(second.removeprefix("also wrong: ").split(", ")) == {"seed", "name", "modes"}
    assert "is missing" in refusal({})
    assert "should be a mapping" in refusal([1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not there"),
        (b"", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text (byte 0)"),
        (b"name: [1", "is not YAML: "),
        (b"a:\n\t- b", "(line 2, column 1)"),
        (b"- a", "holds a list, not a mapping"),
        (b"just words", "holds a str, not a mapping"),
        (b"seed: 1\nseed: 2", "the key 'seed' is there twice (line 2, column 1)"),
        (b"slo: {ttft_ms: 1, ttft_ms: 2}", "the key 'ttft_ms' is there twice"),
        (b"name: !!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
        (b"seed: 2026-13-99", "cannot be read as YAML"),
        (b"[" * 5000, "cannot be read as YAML"),
        (b"? [a]\n: b", "unhashable"),
        (b"#" * 1_000_001, "is larger than"),
        (b"name: \x00", "is not YAML"),
    ],
)
def test_a_file_that_is_no_spec_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    """Whatever the file is, there is one message with its path, and no traceback."""
    path = tmp_path / "s.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError) as error:
        load_spec(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_a_folder_is_no_spec(tmp_path: Path) -> None:
    """The path of a folder is answered like any other mistake."""
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_spec(tmp_path)


def test_a_file_is_read(tmp_path: Path) -> None:
    """What is in the file is what is in the spec, also with a byte order mark before it."""
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8-sig")
    assert load_spec(path) == parse_spec(SMALL)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@example("scenarios", [""])
@given(st.sampled_from([*SMALL, "modes", "windows", "slo", "limits", "seed", "nonsense"]), JSON)
def test_whatever_stands_at_a_key_there_is_a_spec_or_a_message(key: str, value: object) -> None:
    """No value makes anything but a spec or a SpecError of one or two lines."""
    try:
        parse_spec({**SMALL, key: value})
    except SpecError as error:
        lines = str(error).splitlines()
    else:
        lines = ["a spec"]
    assert 1 <= len(lines) <= 2


def test_every_key_has_its_words_in_the_form() -> None:
    """Who fills in the form in Prefect's UI reads what each key is; no words stand for a key that is not."""
    parts = (CampaignSpec, Host, Engine, Container, ProbePoint, Workload, Windows, Slo, Limits)
    assert {part.__name__: list(part.model_fields) for part in parts} == {
        name: list(words) for name, words in spec_form.WORDS.items()
    }
    form = CampaignSpec.model_json_schema()
    assert form["properties"]["scenarios"]["description"] == spec_form.WORDS["CampaignSpec"]["scenarios"][1]
    assert form["$defs"]["Windows"]["properties"]["fault_s"]["title"] == "Fault (s)"
    assert form["$defs"]["Engine"]["properties"]["kind"]["enum"] == ["sglang", "vllm"]
