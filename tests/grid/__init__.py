"""The grid under faults: kills, full disks, several runners, and what a store may meet."""
