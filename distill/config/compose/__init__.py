"""Presets and overrides composed into plain configurations by Hydra.

`presets` chooses and checks presets, `composer` calls Hydra, `names` names what was chosen, and `remembered` keeps
compositions of a table's cells on the disk.
"""
