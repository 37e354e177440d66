"""The picture: a hospital's day in both designs, and what a million images cost."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.pipeline.costs import Purpose, dollars
from bench.pipeline.results import HospitalDay, PerImageDay

_OURS, _OTHER, _RECEIVED = "#0b6e4f", "#b5482a", "#9aa5b1"
_MILLION = 1_000_000
_HEADROOM = 4.0


def draw(ours: HospitalDay, other: PerImageDay, path: Path) -> None:
    """Write the picture."""
    mpl.use("Agg")
    figure = Figure(figsize=(9, 6.5), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 1))
    _draw_day(above, ours, other)
    _draw_costs(below, ours, other)
    figure.suptitle(
        f"{ours.hospital.studies:,} studies, {ours.day.images:,} images, "
        "under HealthImaging's published limits (simulated)",
        fontweight="bold",
    )
    figure.savefig(path)


def _draw_day(axes: Axes, ours: HospitalDay, other: PerImageDay) -> None:
    hours = [(quarter + 1) / 4 for quarter in range(len(ours.imported))]
    for images, label, colour, width in (
        (other.received, "received", _RECEIVED, 5.0),
        (ours.imported, "imported, one job per batch", _OURS, 1.8),
        (other.started, "started at best, one job per image", _OTHER, 1.8),
    ):
        axes.plot(hours, images, label=label, color=colour, linewidth=width)
    axes.set_xlabel("hour of the day")
    axes.set_xticks(range(0, 25, 4))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value / _MILLION:g} M")
    axes.set_title("images", loc="left")
    axes.legend(frameon=False)
    _plain(axes, "both")


def _draw_costs(axes: Axes, ours: HospitalDay, other: PerImageDay) -> None:
    values = [
        dollars(bill[Purpose.WORKFLOW]) / ours.day.images * _MILLION
        for bill in (other.bill, ours.bill)
    ]
    drawn = axes.barh(["one job per image", "one job per batch"], values, color=[_OTHER, _OURS])
    axes.bar_label(drawn, labels=[f"${value:,.2f}" for value in values], padding=4)
    axes.set_xscale("log")
    axes.set_xlim(1, max(values) * _HEADROOM)
    axes.xaxis.set_major_formatter("${x:,.0f}")
    axes.set_title("workflow cost of a million images (logarithmic)", loc="left")
    _plain(axes, "x")


def _plain(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.3)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
