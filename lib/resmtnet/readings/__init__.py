"""What readers say, kept: one append-only database of readings, and the ways into it."""
