"""Transformers of Hugging Face's, found by rule, confirmed by numbers, run by their own modules."""
