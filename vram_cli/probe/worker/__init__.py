"""The worker process: everything that runs on the far side of the pipe."""
