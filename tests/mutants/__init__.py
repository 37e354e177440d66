"""Plants errors in the product and reports which of them the tests find.

``python -m tests.mutants.contexts`` records which test executes which line of the product.
``python -m tests.mutants`` then picks mutants by a seed, plants each in a copy of the checkout,
and runs the tests that execute its line.

This is our own since mutmut knows only what runs in pytest's own process, by function, and
cosmic-ray runs one test command for every mutant: neither picks tests by coverage context, and
both would miss the receiver, which the tests start as a process.
"""
