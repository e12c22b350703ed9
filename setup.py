"""The one part of the package that is compiled: box overlaps and NMS. Metadata stands in pyproject.toml.

The extension is optional: without Cython or without a compiler the install succeeds, and the NumPy twins serve.
"""

import sys

from setuptools import Extension, setup


def list_extensions() -> list:
    try:
        from Cython.Build import cythonize
    except ImportError:
        print("agedge: no Cython here: the compiled box functions are left out, NumPy does their work", file=sys.stderr)
        return []
    # No fused multiply-add: both twins give the same numbers to the last bit.
    flags = [] if sys.platform == "win32" else ["-O2", "-ffp-contract=off"]
    source = Extension("agedge.faces._boxes", ["src/agedge/faces/_boxes.pyx"], extra_compile_args=flags)
    extensions = cythonize([source], quiet=True)
    for extension in extensions:
        extension.optional = True  # here, for Cython makes new extensions and forgets it
    return extensions


setup(ext_modules=list_extensions())
