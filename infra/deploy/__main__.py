"""``python -m infra.deploy``."""

import os

from contract.regions import use_aws_region
from infra.deploy.cli import main

use_aws_region(os.environ)
main()
