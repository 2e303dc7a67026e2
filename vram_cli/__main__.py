"""`python -m vram_cli` and the `vram` command."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line."""
    try:
        # `timeout`, batch systems and cancelled CI jobs send SIGTERM: report the partial answer, as for Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        code = _run()
    except KeyboardInterrupt:  # before a command has started
        code = 130
    sys.exit(code)


def _run() -> int:
    try:
        from vram_cli.streams import protect_streams

        protect_streams()
        from vram_cli.cli import run_command
    except (ImportError, OSError) as error:
        # Python would exit with 1, which is reserved for findings.
        sys.stderr.write(f"error: vram cannot be loaded: {error}\nhint: pip install --force-reinstall vram-cli\n")
        return 3
    return run_command(sys.argv[1:])


if __name__ == "__main__":
    main()
