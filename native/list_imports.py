"""Write refusals.h: all functions of CUDA's libraries that installations of PyTorch import, and all of the runtime.

    python native/list_imports.py SITE_PACKAGES...

Needs `nm`. The driver's functions are looked up by name as PyTorch runs, so their names are read from its strings.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FAMILIES = {
    "cuda": "CUDA", "__cuda": "CUDA", "cublas": "CUBLAS", "cudnn": "CUDNN", "cusolver": "CUSOLVER",
    "cusparse": "CUSPARSE", "cufft": "CUFFT", "nccl": "NCCL",
}  # fmt: skip
LIBRARIES = ("torch_cuda", "c10_cuda", "torch_cuda_linalg", "torch_python", "torch_cpu")
DRIVER = re.compile(
    r"cu(?:Ctx|Dev|Device|Func|Get|Green|Init|Launch|Link|Logs|Mem|Module|Multicast|Occupancy|Pointer|Stream|Tensor)"
    r"[A-Za-z0-9]*(?:_v\d)?"
)


def main() -> None:
    """Write the file beside this one."""
    rows = set()
    for site in map(Path, sys.argv[1:]):
        for library in (site / "torch/lib" / f"lib{name}.so" for name in LIBRARIES):
            if not library.exists():
                continue
            names = {line.split()[-1].split("@")[0] for line in output("nm", "-D", "--undefined-only", library)}
            rows |= {(family, name) for name in names if (family := family_of(name))}
            if library.name in ("libtorch_cuda.so", "libc10_cuda.so"):
                words = output("strings", "-n", "6", library)
                rows |= {("DRIVER", word) for word in words if DRIVER.fullmatch(word)}
        for runtime in site.glob("nvidia/*/lib/libcudart.so.*"):  # extensions call more of it than PyTorch does
            names = {line.split()[-1].split("@")[0] for line in output("nm", "-D", "--defined-only", runtime)}
            rows |= {("CUDA", name) for name in names if family_of(name) == "CUDA"}
    text = "".join(f"{family}({name})\n" for family, name in sorted(rows))
    Path(__file__).with_name("refusals.h").write_text(f"// Made by list_imports.py.\n{text}", encoding="ascii")


def family_of(name: str) -> str | None:
    """Return the library of a function; None for all other imports, such as C++ symbols."""
    match = re.match(r"(__cuda|cuda|cublas|cudnn|cusolver|cusparse|cufft|nccl)[A-Z]", name)
    return FAMILIES[match.group(1)] if match else None


def output(*command: str | Path) -> list[str]:
    """Return the lines that a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


if __name__ == "__main__":
    main()
