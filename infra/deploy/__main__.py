"""``python -m infra.deploy``."""

from infra.deploy.cli import main

main()
