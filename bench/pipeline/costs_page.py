"""The tables in docs/costs.md, which a run writes between their marks; the prose is nobody's."""

import re
from collections.abc import Mapping

from bench.pipeline import sheets
from bench.pipeline.hospital import MIX
from bench.pipeline.sheets import Days, Sheet

_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fixed_tables() -> Mapping[str, Sheet]:
    """Those that do not depend on what is simulated."""
    return {
        "prices": sheets.price_sheet(),
        "assumptions": sheets.assumption_sheet(),
        "mix": _mix(),
    }


def tables(days: Days) -> Mapping[str, Sheet]:
    """All of them; the last of ``days`` is the largest hospital's."""
    simulated = {"costs": sheets.cost_sheet(days), "services": sheets.service_sheet(*days[-1])}
    return {**fixed_tables(), **simulated}


def filled(page: str, found: Mapping[str, Sheet]) -> str:
    """The page with its tables as they are now; raises KeyError for a mark of no table."""
    return _TABLE.sub(lambda mark: f"{mark[1]}{found[mark[2]].as_markdown()}{mark[3]}", page)


def _mix() -> Sheet:
    rows = tuple(
        (
            each.name,
            f"{each.share:.0%}",
            f"{each.images:,g}",
            f"{each.size / 1e6:g} MB",
            f"{each.sends}" if each.sends else "one for each image",
            f"{each.gap:g} s",
        )
        for each in MIX
    )
    head = ("modality", "of studies", "images, mean", "an image", "associations", "between them")
    return Sheet("The mix", head, rows)
