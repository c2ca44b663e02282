"""Which units of a site matter: ranked once, before the search.

The search decides how many units stay, the criterion decides which. A criterion is a dataclass
whose fields are its options, with a method ``scores(subject) -> {site: (units,)}``; larger means
more important. Most score single weights and lift the scores to units with ``lift``.
"""
