"""Do the verdicts keep what they promise? See `__main__.py`."""
