"""Benchmarks: the receiver against real peers, the pipeline under AWS's limits."""
