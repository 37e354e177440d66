"""What can go wrong on a laptop, said in one line."""

import click


class LocalCloudError(click.ClickException):
    """The local cloud cannot do what was asked; click prints the message and exits 1."""
