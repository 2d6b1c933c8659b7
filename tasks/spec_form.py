"""The campaign spec as a form: what Prefect's UI writes beside each key."""

from typing import Any

WORDS: dict[str, dict[str, tuple[str, str]]] = {
    "CampaignSpec": {
        "name": ("Campaign name", "Letters, digits, dot, dash. Each start of it is an instance: the name and the time."),
        "hosts": ("Hosts", "The machines that are measured. They work side by side, one cell at a time each."),
        "engines": ("Engines", "The inference servers that are compared, each with its arguments."),
        "workload": ("Workload", "Every input length with every output length at every concurrency."),
        "scenarios": ("Scenarios", "What is done to the host: normal, sham (a fault of strength zero), or an anomaly."),
        "modes": ("Modes", "How much is recorded: sentinel (light), or deepdive (with deep captures)."),
        "windows": ("Windows", "How long each part of a run takes."),
        "slo": ("Service-level objective", "What an incident is held against."),
        "repetitions": ("Repetitions", "How often every cell is run."),
        "seed": ("Seed", "The same seed gives the same cells in the same shuffled order."),
        "limits": ("Limits", "When to give up on a cell, a campaign, or a host that is busy."),
    },
    "Host": {
        "name": ("Host name", "What it is called in tables. `lab` is this machine over loopback SSH, and needs no address."),
        "address": ("Address", "Any ssh_config alias, name or IP address. Not for `lab`."),
        "user": ("SSH user", "None: as ssh_config says."),
        "port": ("SSH port", "None: as ssh_config says."),
        "identity_file": ("SSH key", "Path of a private key on this machine. None: as ssh_config says."),
        "known_hosts": ("Known hosts", "Path of a known_hosts file on this machine. A host key that is not there is refused."),
        "group": ("Group", "Hosts alike: when one is lost, the others of its group take over its cells."),
        "allow_faults": ("Allow faults", "No fault is injected on a host that does not say so."),
        "engine_cpus": ("CPUs of the engine", "The server and the faults run on these. None: all."),
        "our_cpus": ("CPUs of ours", "Recorders and the load client run on these, apart from the engine's."),
        "gpus": ("GPUs", "Numbers of the GPUs that the server uses and the GPU faults disturb."),
    },
    "Engine": {
        "kind": ("Engine", "Which server it is."),
        "model": ("Model", "Path or hub name. `tiny` on the host `lab` is a small random model that is made there."),
        "args": ("Arguments", "Of the server, without leading dashes; false becomes --no-NAME."),
        "python": ("Interpreter", "Path of the engine's python on the host. None: what `lprism engines install` made."),
        "port": ("Server port", "None: a free one."),
        "env": ("Environment", "Variables of the server. Their values are written down nowhere in our records."),
        "client_python": ("Load client's interpreter", "None: the engine's own."),
        "container": ("Container", "The name of one that runs, or an image with options of docker run. None: no container."),
        "attach": ("Attach to", "URL of a server that somebody else runs: it is neither started nor stopped."),
        "log": ("Server log", "Path on the host; only of an attached vLLM with --enable-logging-iteration-details."),
        "allow_faults": ("Faults beside an attached server", "Without it no fault comes near somebody else's server."),
        "probe_points": ("Probe points", "Functions of the server whose calls are recorded too."),
    },
    "Container": {
        "name": ("Name", "A container that runs already."),
        "image": ("Image", "A container is made from it."),
        "options": ("Options", "Of docker run."),
    },
    "ProbePoint": {
        "point": ("Function", "package.module:Class.function"),
        "attributes": ("Attributes", "What is noted of each call: args.0, args.1.name, kwargs.x, result.y"),
    },
    "Workload": {
        "input_lengths": ("Input lengths", "Tokens of a prompt."),
        "output_lengths": ("Output lengths", "Tokens of an answer."),
        "concurrency": ("Concurrency", "Requests under way at the same time."),
    },
    "Windows": {
        "warmup_s": ("Warm-up (s)", "Load before anything is recorded."),
        "baseline_s": ("Baseline (s)", "What is normal in this run, before the fault."),
        "fault_s": ("Fault (s)", "From the fault that is proved to its undo."),
        "recovery_s": ("Recovery (s)", "After the undo that is proved."),
        "deep_iterations": ("Deep iterations", "Engine steps of a deep capture."),
    },
    "Slo": {
        "ttft_ms": ("Time to first token (ms)", "Recorded only, so far."),
        "tpot_ms": ("Time per output token (ms)", "An incident that exceeds it has broken the objective."),
    },
    "Limits": {
        "cell_timeout_s": ("Cell timeout (s)", "A cell that takes longer has failed."),
        "max_consecutive_failures": ("Failures in a row", "After so many failed cells in a row a host gives up."),
        "busy_host": ("Busy host", "When another campaign has the host: wait for it, or refuse."),
    },
}  # fmt: skip


def in_words(schema: dict[str, Any], part: type) -> None:
    """Put the words of a part of the spec into its JSON schema; the hook `json_schema_extra` of pydantic."""
    for key, (title, description) in WORDS.get(part.__name__, {}).items():
        schema["properties"][key] |= {"title": title, "description": description}
