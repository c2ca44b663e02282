"""Writes a pattern as a model of its own, on the highest rung of the ladder that it allows."""
