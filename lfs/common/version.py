"""The version of the whole project.

Held by ``tests/library/test_face.py``.
"""

__version__ = "0.1.0"
