"""Parameters: the schema, tier files, the design of a tier, and the parameters of notebooks."""
