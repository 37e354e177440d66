"""What can go wrong on a laptop, said in one line."""

import traceback
from pathlib import Path

import click


class LocalCloudError(click.ClickException):
    """The local cloud cannot do what was asked; click prints the message and exits 1."""


def in_one_line(error: BaseException) -> str:
    """``KeyError in models.py:2815``: an error's type and place, for a log line.

    Without its message, which may quote what others wrote.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
