"""Training scripts as their users start them: rehearsed once, then run for a few steps per trial."""
