"""The protocol: a module per stage, what the stages share, and the plan of a tier."""
