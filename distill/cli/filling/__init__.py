"""`distill fill` step by step: what is asked, which runs that makes, what they cost, and their training in order."""
