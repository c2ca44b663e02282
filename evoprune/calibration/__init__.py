"""Which examples a search is scored on: clusters of a pool, samplers over them, nested rungs."""
