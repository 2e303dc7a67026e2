"""`python -m vram_cli` and the `vram` command."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line."""
    try:
        from vram_cli.cli import app
    except ImportError as error:
        # Python would exit with 1, which is reserved for findings.
        sys.stderr.write(f"error: vram is not fully installed: {error}\nhint: pip install --force-reinstall vram-cli\n")
        sys.exit(3)
    # `timeout`, batch systems and cancelled CI jobs send SIGTERM: report the partial answer, as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="vram")


if __name__ == "__main__":
    main()
