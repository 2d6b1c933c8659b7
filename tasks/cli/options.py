"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tasks.settings import HOME_VARIABLE, SpecError, home_path

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        envvar=HOME_VARIABLE,
        help="Where bundles, lake, models and warehouse are; default ./lprism-home.",
    ),
]
Campaign = Annotated[
    str,
    typer.Option(
        "--campaign", "-c", metavar="C", help="A campaign's instance, as `lprism campaign run` names it."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for another program.")]
SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="The campaign spec, a YAML file.")]


class RowsFormat(StrEnum):
    """How a command prints rows."""

    table = "table"
    csv = "csv"
    json = "json"


def home_of(given: Path | None, campaign: str) -> Path:
    """Return the home, if its lake has the campaign.

    Raises:
        SpecError: it has none; the message names the nearest campaign that it has.
    """
    from tasks.lake import campaigns_of
    from tasks.spec_errors import unknown

    home = home_path(given)
    known = campaigns_of(home)
    if campaign in known:
        return home
    if not known:
        raise SpecError(f"{home} holds no campaign yet: run one first, or name another home with --home")
    raise SpecError(unknown("campaign", campaign, known))
