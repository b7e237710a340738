"""The tables of finished tiers: collected, read, packed into archives and merged."""
