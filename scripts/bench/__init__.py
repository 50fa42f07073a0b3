"""What training costs, as a ratio to the field's own loop: `make bench`. Not part of the wheel."""
