"""The parts of lfs that need not be installed, and what a command says that lacks one.

The core needs neither FUSE nor NumPy.  What needs them imports them late, in the
functions that serve or check, so that every command starts without, explains itself,
and does whatever else it can.  Where such a library is not installed, the line names the
part that brings it.  One that is there and does not load, because it was built for
another Python or for a library of the system that is missing, would not load either
after that: so there the line says what the import itself says.
"""

from __future__ import annotations

DISTRIBUTION = "lfsprogs"
EXTRAS = {"pyfuse3": "fuse", "trio": "fuse", "numpy": "fsck"}
"""The libraries, and the part (in pip's word: the extra) of the distribution that each is of."""


def import_failure(error: ImportError) -> str:
    """Return the one line for people that says why a part of lfs can't be imported."""
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"needs {error.name}: pip install '{DISTRIBUTION}[{EXTRAS[error.name]}]'"
    # NumPy wraps the reason in a page of advice.
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    return str(reason).strip().partition("\n")[0]
