"""``evoprune init``: a configuration that certainly runs, made by looking at a model and data."""
