"""Notebooks: opened, executed, handed out and checked."""
