"""``make bench-receiver``: our receiver and its peers under one load, in one run."""
