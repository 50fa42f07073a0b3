"""How runs are carried out: one or a cohort, their teachers, steps, checkpoints, progress, signals and outcomes."""
