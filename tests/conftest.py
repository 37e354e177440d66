"""Hypothesis without a deadline for each example: a timed assertion, which a busy machine fails."""

from hypothesis import settings

# On top of what is in force, which in CI is Hypothesis' own profile for it.
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")
