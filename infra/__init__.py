"""What stands on AWS: the templates, and the command that deploys them."""
