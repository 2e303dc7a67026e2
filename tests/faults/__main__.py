"""`python -m tests.faults [TEXT]`."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module

from tests import faults
from tests.faults.run import Fault, report


def main(text: str = "") -> int:
    chosen: dict[str, list[Fault]] = {}
    for module in pkgutil.iter_modules(faults.__path__):
        if module.name not in ("run", "__main__"):
            rows: list[Fault] = import_module(f"tests.faults.{module.name}").FAULTS
            chosen[module.name] = [row for row in rows if text == module.name or text in row.name]
    return report(chosen)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
