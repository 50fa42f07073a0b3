"""The page of a sweep: accuracies over the values that were tried, and what was chosen. Imports no torch."""
