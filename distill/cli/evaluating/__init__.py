"""What `distill evaluate` measures, and how it is laid out."""
