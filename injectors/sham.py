"""Sham: the whole life of a fault at strength zero. Nothing is changed, so nothing may be found.

What campaigns and detectors make of it is what the apparatus itself does to a server. The victim's measure
is the CPU time to be had on the server's CPUs; it is recorded, and proves nothing. Standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.host import processes, victim

if TYPE_CHECKING:
    from tasks.host.site import Site
    from tasks.host.strengths import Parameters

STRENGTH: Parameters = {}
METRIC, UNIT = victim.METRIC, victim.UNIT


def requirements(_site: Site) -> str | None:
    """Nothing is needed."""
    return None


def saved(_site: Site) -> dict[str, Any]:
    """Nothing of the host's is changed."""
    return {}


def apply(_site: Site) -> str:
    """Change nothing."""
    return "nothing was changed"


def revert(_site: Site) -> None:
    """Undo nothing."""


def left(_site: Site) -> str | None:
    """Nothing can be left."""
    return None


def probe(site: Site) -> float:
    """CPUs' time that the server and a loop on each of its CPUs get."""
    return victim.cpus_to_be_had(
        site.cpus, lambda: processes.session_members(site.target) if site.target else set()
    )


def proved(_site: Site, _before: float, _during: float) -> bool:
    """The life cycle took place: there is no effect to prove."""
    return True


def undone(_site: Site, _before: float, _after: float) -> bool:
    """There is nothing to undo."""
    return True
