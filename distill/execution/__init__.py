"""Plans carried out: teachers first, cohorts, resuming, stopping, and the filling of a published table."""
