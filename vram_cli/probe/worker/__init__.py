"""The code that runs in the worker process."""
