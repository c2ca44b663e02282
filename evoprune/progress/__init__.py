"""During a search: what is left of it, and who is told."""
