"""What each kind of process, environment and publisher does."""
