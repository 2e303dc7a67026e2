"""`python -m vram_cli` and the `vram` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from vram_cli.cli import app

    app(prog_name="vram")


if __name__ == "__main__":
    main()
