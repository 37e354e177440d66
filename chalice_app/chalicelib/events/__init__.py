"""Facts told to the world: EventBridge events, each kept until it has been sent."""
