"""Pure functions of tensors: what a method compares, without weights, modules or state."""
