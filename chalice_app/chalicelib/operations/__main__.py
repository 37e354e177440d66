"""The operator's command line; see docs/operations.md.

It runs with the operator's own AWS credentials, and the environment of the Lambdas.
"""

import sys

from chalicelib.operations.command_line import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
