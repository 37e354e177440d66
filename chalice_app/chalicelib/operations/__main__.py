"""The operator's command line; see docs/operations.md.

It runs with the operator's own AWS credentials, and the environment of the Lambdas.
"""

import os
import sys

from chalicelib.operations.command_line import run
from contract.regions import use_aws_region

if __name__ == "__main__":
    use_aws_region(os.environ)
    sys.exit(run(sys.argv[1:]))
