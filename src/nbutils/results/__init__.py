"""The tables of finished tiers: collected, kept, packed for others and read."""
