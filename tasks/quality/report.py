"""A validation for people: the same table on a terminal and in Prefect."""

from tasks.quality.suites import Result, ValidationOutcome

COLUMNS = ("check", "policy", "observed", "verdict")
_BROKEN = {"fail": "FAILED", "quarantine": "left out", "warn": "warning"}


def table(outcome: ValidationOutcome) -> list[tuple[str, str, str, str]]:
    """A row a check, what is broken first: the rows of COLUMNS."""
    ordered = sorted(outcome.results, key=lambda one: (one.success, list(_BROKEN).index(one.policy)))
    several = len({one.suite for one in outcome.results}) > 2  # noqa: PLR2004 - one suite and the summary
    return [_row(one, named=several) for one in ordered]


def markdown(outcome: ValidationOutcome) -> str:
    """The table in Markdown, below a line that says what it comes to."""
    failed = sum(not one.success and one.policy == "fail" for one in outcome.results)
    verdict = f"{failed} of its checks failed" if failed else "every check that must hold does"
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *table(outcome)]
    rows = "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)
    return f"Campaign `{outcome.campaign}`: {verdict}.\n\n{rows}\n"


def _row(result: Result, *, named: bool) -> tuple[str, str, str, str]:
    check = f"{result.suite}: {result.expectation}" if named else result.expectation
    observed = result.observed if result.success else f"{result.observed} ({result.subject})"
    return check, result.policy, observed, _verdict(result)


def _verdict(result: Result) -> str:
    if not result.success:
        return _BROKEN[result.policy]
    return "holds" if result.total else "nothing to judge"


def _escaped(cell: str) -> str:
    """Cells hold names of runs, and these come out of files."""
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
