"""Reports: one HTML page with figures and their numbers, on a student, a published table or a sweep."""
