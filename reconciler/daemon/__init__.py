"""The composition root: clock, timers, signals and turn threads live here and nowhere else."""
