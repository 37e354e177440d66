"""``python -m local``: the demo, the running local cloud, and a sender."""

from local.cli import main

main()
