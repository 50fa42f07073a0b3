"""Carries out run plans: teachers first, cohorts, resuming, stopping, and filling a published table."""
