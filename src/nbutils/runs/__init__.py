"""The engine: identity, store and execution of runs; it knows no stage, no tier and no model."""
