"""The splits of the data, which are never mixed, and how a front names them."""

SPLITS = ("search", "validation", "report")
# Some networks are trained here first.
WITH_TRAINING = ("training", *SPLITS)
# How the columns of a front begin, and the split that they are of.
SPLIT_OF = {"search": "search", "val": "validation", "report": "report"}
PREFIX_OF = {split: prefix for prefix, split in SPLIT_OF.items()}
