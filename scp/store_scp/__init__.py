"""The Store SCP: receives instances over DIMSE and makes them durable before it answers."""
