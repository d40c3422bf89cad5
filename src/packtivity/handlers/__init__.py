"""What to do for each kind of process, environment and publisher."""
