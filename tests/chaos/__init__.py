"""A seeded run of the whole product while everything around it fails: ``python -m tests.chaos``."""
