"""Sparse heads: a frozen backbone's cached features under a small head that is pruned.

A candidate is a mask over the features, over the hidden neurons, or both. ``fit`` gives its head
from a fixed initialisation, in tens of milliseconds; ``recipe`` trains it as MO-EvoPruneDeepTL does
and is the reference. ``backbone`` is a small network for digits. A fitted head is a state dict of
what is kept only.
"""
