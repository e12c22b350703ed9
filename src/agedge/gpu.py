"""Make the GPU build of MXNet find its CUDA 11 libraries: `python -m agedge.gpu`, which `make gpu` calls.

mxnet-cu112 contains machine code for compute capability 5.0 to 8.6 and searches CUDA only beside libmxnet.so. The
`nvidia-*-cu11` wheels install the libraries in folders of their own, so this module links them beside libmxnet.so.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import List

from agedge.errors import AgedgeError

# The sonames that libmxnet.so of mxnet-cu112 1.9.1 needs; the driver provides libcuda.so.1.
SONAMES = (
    "libcudart.so.11.0",
    "libcublas.so.11",
    "libcublasLt.so.11",
    "libcufft.so.10",
    "libcurand.so.10",
    "libcusolver.so.11",
    "libcudnn.so.8",
    "libnvrtc.so.11.2",
    "libnccl.so.2",
    "libnvToolsExt.so.1",
)


def link_libraries(package: Path, nvidia: Path) -> List[Path]:
    """Link every library under `nvidia` into MXNet's package folder. Returns the new links.

    Raises `AgedgeError` that names the missing libraries.
    """
    found = {library.name: library for library in sorted(nvidia.glob("*/lib/*.so*"))}
    if missing := [name for name in SONAMES if name not in found]:
        raise AgedgeError(f"{nvidia}: CUDA 11 libraries missing: {', '.join(missing)}; run make gpu")
    links = []
    for name, library in found.items():
        link = package / name
        if link.is_symlink() or not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(library, package))
            links.append(link)
    return links


def main() -> None:
    """Link the libraries, then import MXNet: without a driver the import of the GPU build fails."""
    spec = find_spec("mxnet")
    if spec is None or not spec.submodule_search_locations:
        raise AgedgeError("mxnet: is not installed; run make gpu")
    package = Path(spec.submodule_search_locations[0])
    links = link_libraries(package, package.parent / "nvidia")
    print(f"linked {len(links)} CUDA 11 libraries beside {package / 'libmxnet.so'}")
    test = "import mxnet; print('GPUs that MXNet finds:', mxnet.context.num_gpus())"
    tried = subprocess.run([sys.executable, "-c", test], capture_output=True, text=True)
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        hint = "no NVIDIA driver is installed" if "libcuda.so.1" in reason else "the import fails"
        raise AgedgeError(f"mxnet-cu112: {hint}: {reason}; `make clean all` reinstalls the CPU build")
    print(tried.stdout.strip())


if __name__ == "__main__":
    from agedge.cli import run_command

    run_command(main)
