"""``python -m tests.fuzz.fuzz_receiver [libFuzzer options] CORPUS``: needs atheris."""

import sys

import atheris

with atheris.instrument_imports(include=["store_scp", "contract"]):
    from tests.fuzz.targets import run


def main() -> None:
    """Fuzz until told to stop, or until something breaks."""
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
