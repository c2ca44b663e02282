"""Realises patterns and measures them: in this process, or in Ray actors."""
