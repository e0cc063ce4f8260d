"""What the numbers mean: metric names, types, units and help, in dialects. Pure data."""
