"""Ensembles: several members of a front that answer together, stored as one base plus patterns.

``members`` and ``routed`` choose on the validation split, ``compare`` judges on the report split,
``ensemble`` tells the story from a front to ``ensembles/<name>``, and ``module`` loads it back.
"""
