"""Run scientific tasks that must stay runnable for decades."""
