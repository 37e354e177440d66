"""What the receiver and the Lambdas agree on: names, keys, records and statuses.

Standard library only: this package is copied into the container and into every Lambda.
"""
