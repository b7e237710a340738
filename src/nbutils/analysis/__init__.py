"""From measured rows to intervals and verdicts: pure functions of tables."""
