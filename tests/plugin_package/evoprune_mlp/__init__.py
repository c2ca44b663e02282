"""Multilayer perceptrons for evoprune: a family, a criterion and an objective."""
