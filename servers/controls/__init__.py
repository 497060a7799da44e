"""Stores that are known to break their promises, run as positive controls: the judge must convict them."""
