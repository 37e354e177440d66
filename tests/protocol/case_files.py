"""The files of ``cases/``: what one peer sends, byte for byte (see its README.md)."""

from pathlib import Path

from tests.protocol.peer import Wire

_CASES = Path(__file__).with_name("cases")


def play(port: int, name: str) -> Wire:
    """A connection on which the file was sent as it is; read what comes back, and close it."""
    wire = Wire(port)
    wire.send((_CASES / name).read_bytes())
    return wire
