"""`lprism models`: what was learned, how well it does, and what it says of any table of batches."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tasks.cli import options
from tasks.cli.output import busy, print_csv, print_json, print_table, printable
from tasks.settings import SpecError, home_path

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model, as `lprism models list` names it.")]
LISTED = (
    *("model_id", "campaign", "engine", "target", "purpose", "kind", "training_rows", "heldout_mape_ratio"),
    *("heldout_median_ape_ratio", "heldout_within_10pct_ratio", "limit_residual"),
)
COMPARED = (
    *("campaign", "engine", "engine_key", "model", "cpu_model", "purpose", "target", "kind", "library"),
    *(
        "training_rows",
        "seed",
        "heldout_mape_ratio",
        "heldout_median_ape_ratio",
        "heldout_within_10pct_ratio",
    ),
)


TESTED = (
    *("evaluation", "strategy", "scenario", "strength", "runs", "hours", "false_incidents_an_hour"),
    *("false_incidents_an_hour_high", "slowdown", "detection_ratio", "lag_batches", "lag_ms", "f1_ratio"),
    "false_alarm_ratio",
)


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback()(_models)
    group.command("list", epilog="Example: lprism models list --all")(list_models)
    group.command("show", epilog="Example: lprism models show m0123456789")(show)
    group.command("compare", epilog="Example: lprism models compare m0123456789 m9876543210")(compare)
    group.command("score", epilog="Example: lprism models score normal_vllm.csv --engine vllm --format csv")(
        score
    )
    group.command("backtest", epilog="Example: lprism models backtest m0123456789")(backtest)
    app.add_typer(
        group,
        name="models",
        help="Look at latency models, and use them.",
        epilog="Example: lprism models list",
    )


def _models() -> None:
    """Look at latency models, and use them."""


def list_models(
    *,
    every: Annotated[bool, typer.Option("--all", help="Those with sessions left out, too.")] = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """List the models, the newest first: what they are of, and their errors on sessions left out."""
    from tasks.sentinel.evaluate import CHAMPION
    from tasks.sentinel.score import stored_models

    models = stored_models(home_path(home))
    shown = models if every else models[models["purpose"] == CHAMPION]
    rows = shown[list(LISTED)].to_dict("records")
    if as_json:
        print_json(rows)
    else:
        print_table(LISTED, [tuple(row.values()) for row in rows])


def show(model: Model, *, home: options.Home = None, as_json: options.Json = False) -> None:
    """Show a model's card: what it was made of, its kinds' errors, its limits, and what its data lacked."""
    (card,) = _cards(home_path(home), [model])
    if as_json:
        print_json(card)
        return
    plain = {name: value for name, value in card.items() if not isinstance(value, list | dict)}
    print_table(("what", "value"), [*plain.items(), *_listed(card)])
    for title in ("candidates", "limits"):
        flat = [_flat(one) for one in card[title]]
        if flat:
            typer.echo(title)
            print_table(tuple(flat[0]), [tuple(one.get(name) for name in flat[0]) for one in flat])


def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Two models or more.")],
    *,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Put models side by side: what differs, and their errors on sessions left out."""
    if len(models) < 2:  # noqa: PLR2004 - a comparison needs two
        raise SpecError("name two models or more: `lprism models list` names them")
    cards = _cards(home_path(home), models)
    rows = [(name, *(card[name] for card in cards)) for name in COMPARED]
    rows.append(("limit in use", *(card["limits"][0]["limit"] for card in cards)))
    rows.append(("training sessions", *(len(card["training_sessions"]) for card in cards)))
    if as_json:
        print_json([{"what": name, **dict(zip(models, values, strict=True))} for name, *values in rows])
    else:
        print_table(("what", *models), rows)


def score(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Batches: any format that is ingested, or CSV.")
    ],
    *,
    engine: Annotated[str, typer.Option(metavar="E", help="Engine that the batches are of.")],
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Default: its newest champion.")] = None,
    form: Annotated[
        options.RowsFormat, typer.Option("--format", help="How to print the rows.")
    ] = options.RowsFormat.table,
    home: options.Home = None,
) -> None:
    """Say of every batch of a file what it should have taken, in the file's order; rows count from 0.

    Expected is at the level of its session; the alarm is of the last ten batches, and sixty. What cannot be
    judged has empty fields, and the reason stands on standard error.
    """
    from tasks.sentinel.score import COLUMNS, score_file

    with busy(f"scoring {file}"):
        scores = score_file(home_path(home), file, engine, model)
    for note in (f"by model {scores.model_id}", *scores.notes):
        typer.echo(f"lprism: {printable(note)}", err=True)
    if form is options.RowsFormat.csv:
        print_csv(COLUMNS, scores.rows)
    elif form is options.RowsFormat.json:
        print_json([dict(zip(COLUMNS, row, strict=True)) for row in scores.rows])
    else:
        print_table(COLUMNS, scores.rows)


def backtest(model: Model, *, home: options.Home = None, as_json: options.Json = False) -> None:
    """Hold a champion's limits against stored runs of its configuration, by models that never saw them.

    False incidents an hour where nothing was injected; else the share of runs found, the lag, and F1.
    """
    from tasks.lake_tables import publish
    from tasks.sentinel.backtest import backtest as tested

    chosen = home_path(home)
    with busy(f"judging stored runs by {model}"):
        found = tested(chosen, model)
        publish(chosen)
    if as_json:
        print_json({"model_id": found.model_id, "drift": found.drift, "rows": found.rows})
        return
    print_table(TESTED, [tuple(row.get(name) for name in TESTED) for row in found.rows])
    typer.echo(found.drift or "no drift: the model fits the normal runs")


def _cards(home: Path, models: list[str]) -> list[dict[str, Any]]:
    """The cards of models that are stored. Raises SpecError for one that is not."""
    from tasks.sentinel.cards import CARD, read_card
    from tasks.sentinel.score import named, stored_models

    stored = stored_models(home)
    rows = [named(stored, one, "model") for one in models]
    return [read_card((home / row["path"]).with_name(CARD)) for row in rows]


def _listed(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Lists of a card in a line each; what is long only as its number."""
    counts = [(name, len(card[name])) for name in ("training_sessions", "left_out_sessions")]
    return [
        ("features", ", ".join(card["features"])),
        ("notes", "; ".join(card["notes"]) or "none"),
        *((name, str(count)) for name, count in counts),
    ]


def _flat(one: dict[str, Any]) -> dict[str, Any]:
    """A candidate or limit with its inner values as columns of their own."""
    flat: dict[str, Any] = {}
    for name, value in one.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name} {key}".strip(): number for key, number in inner.items()}
    return flat
