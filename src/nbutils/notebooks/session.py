"""The one call that a notebook opens with: its parameters checked, its project, plan and tables."""
