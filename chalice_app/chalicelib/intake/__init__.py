"""From S3 events to closed batches, and from these, in their turn, to executions."""
