"""The parts of the package that are compiled: boxes, patches of images, changes of training faces.

Metadata stands in pyproject.toml.
The extensions are optional: without Cython or without a compiler the install succeeds, and the NumPy twins serve.
"""

import sys

from setuptools import Extension, setup


def list_extensions() -> list:
    try:
        from Cython.Build import cythonize
    except ImportError:
        print("agedge: no Cython here: the compiled functions are left out, NumPy does their work", file=sys.stderr)
        return []
    # No fused multiply-add: both twins give the same numbers to the last bit.
    flags = [] if sys.platform == "win32" else ["-O3", "-ffp-contract=off"]
    sources = [
        Extension(f"agedge.{name}", [f"src/agedge/{name.replace('.', '/')}.pyx"], extra_compile_args=flags)
        for name in ("faces._boxes", "faces._patches", "training.data._augment")
    ]
    sources[-1].depends = ["src/agedge/training/data/_warp.h"]
    extensions = cythonize(sources, quiet=True)
    for extension in extensions:
        extension.optional = True  # here, for Cython makes new extensions and forgets it
    return extensions


setup(ext_modules=list_extensions())
