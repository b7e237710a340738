"""Notebooks: opening, executing and publishing them, and the exercises of the workshop."""
