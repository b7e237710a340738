"""The engine: identity, store and execution of runs, independent of stages, tiers and models."""
