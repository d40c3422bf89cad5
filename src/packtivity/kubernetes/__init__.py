"""Façade: the import path of upstream 0.17.1."""
