"""Faults of the command line: what `vram` answers while streams, files, limits, signals or the user's code fail.

    python -m tests.faults            # all of them, in half an hour; exits with 1 if one was answered wrongly
    python -m tests.faults files      # those of a module
    python -m tests.faults /dev/full  # those with a text in their name

Each other module of this package has a list `FAULTS`.
"""
