"""``make bench-pipeline``: the import pipeline under AWS's published limits, on a virtual clock."""
