"""The Lambdas: from a closed batch to a finished import job, and the REST API over it."""

VERSION = "0.1.0"
