"""Builds http-parser without its C extension.

pymesos needs http-parser, whose last release carries C code generated for Python 3.7: it does not compile against
3.11. The package has the same parser in Python beside it, uses it where the extension is missing, and leaves the
extension out itself when it is built on PyPy. This file, on PYTHONPATH while pip builds, makes that one build believe
so. No file of the package is changed.
"""

import os
import sys

if os.path.exists("http_parser/pyparser.py") and not hasattr(sys, "pypy_version_info"):
    sys.pypy_version_info = sys.version_info
