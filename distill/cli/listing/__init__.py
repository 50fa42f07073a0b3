"""What `distill models` and `distill losses` find out about presets, and how they lay it out."""
