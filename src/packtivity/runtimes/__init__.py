"""Planning executions and starting processes."""
