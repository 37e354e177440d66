"""What an operator does: repeat, release, re-drive, reconcile; ``python -m`` it for a command line.

Every operation is safe to repeat and keeps the reason it was given.
"""
