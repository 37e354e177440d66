"""From S3 events to executions of the state machine."""
