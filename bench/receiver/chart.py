"""The picture for the README: CPU for one image of a CT slice's size, by receiver."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.receiver.peers import OURS
from bench.receiver.rows import Row, Sink
from bench.receiver.sets import MIXED

_OURS, _OTHERS = "#0b6e4f", "#9aa5b1"
_MANY = 16
# Room for the numbers beside the longest bar, on a scale by powers of ten.
_HEADROOM = 3.0
_FOOTER_WIDTH = 130


def bars(rows: Sequence[Row], associations: int) -> list[tuple[str, float]]:
    """A label and CPU milliseconds for each receiver, the most expensive first."""
    found = [
        (_label(row), row.measured.cpu_ms)
        for row in rows
        if row.measured and row.key.image_set == MIXED.name and row.key.associations == associations
    ]
    return sorted(found, key=lambda bar: bar[1], reverse=True)


def has_bars(rows: Sequence[Row]) -> bool:
    """Whether a run has anything to draw."""
    return any(bars(rows, associations) for associations in (1, _MANY))


def draw(rows: Sequence[Row], below: str, path: Path) -> None:
    """Write the picture; ``below`` says where and when its numbers were measured."""
    mpl.use("Agg")
    figure = Figure(figsize=(9, 7.5), dpi=150, layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    for each, associations in zip(axes, (1, _MANY), strict=True):
        many = "s" if associations > 1 else ""
        _draw_bars(each, bars(rows, associations), f"{associations} association{many}")
    axes[-1].set_xlabel(
        "milliseconds per image, user and system, all processes (logarithmic; less is better)"
    )
    figure.suptitle(
        "CPU to receive an image of 0.53 MB, headers of eleven kinds, into a directory or S3",
        fontweight="bold",
    )
    figure.supxlabel(textwrap.fill(below, _FOOTER_WIDTH), fontsize="x-small", color="#52606d")
    figure.savefig(path)


def _draw_bars(axes: Axes, found: list[tuple[str, float]], title: str) -> None:
    labels = [label for label, _ in found]
    values = [value for _, value in found]
    colours = [_OURS if label.startswith(OURS.name) else _OTHERS for label in labels]
    drawn = axes.barh(labels, values, color=colours)
    axes.bar_label(drawn, labels=[f"{value:.2f}" for value in values], padding=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    if values:
        axes.set_xlim(min(values) / _HEADROOM, max(values) * _HEADROOM)


def _label(row: Row) -> str:
    where = "" if row.key.sink is Sink.DIRECTORY else f" → {row.key.sink}"
    return row.key.peer + where
