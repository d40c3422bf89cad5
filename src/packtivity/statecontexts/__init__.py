"""States: the directories a task reads and writes."""
