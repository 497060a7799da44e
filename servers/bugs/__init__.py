"""Bugs on purpose, one class each, put into a reference server to see whether the judge notices."""
