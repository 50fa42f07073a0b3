"""Tables of finished runs: rows, statistics and writers. Imports no torch, so that it starts quickly."""
