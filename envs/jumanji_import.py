"""Imports jumanji, which in IPython would choose another backend for matplotlib.

In a Jupyter kernel it asks for `ipympl`, and its import fails where that is not installed. It asks
only if `__IPYTHON__` is set, so this module hides that meanwhile: the backend is unchanged.
"""

import builtins
import sys

if "jumanji" not in sys.modules and hasattr(builtins, "__IPYTHON__"):
    in_ipython = builtins.__IPYTHON__
    del builtins.__IPYTHON__
    try:
        import jumanji  # noqa: F401
    finally:
        builtins.__IPYTHON__ = in_ipython
