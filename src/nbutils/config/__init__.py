"""Parameters: one schema, tier files, the design of a tier, what people type into notebooks."""
