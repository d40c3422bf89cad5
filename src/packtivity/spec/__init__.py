"""Specs: load, validate, explain what is wrong."""
