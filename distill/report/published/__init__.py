"""The page of a published table: our runs in its cells, drawn beside what was published. Imports no torch."""
