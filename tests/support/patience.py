"""How long tests wait for what comes at once on an idle machine.

Long enough for one that gives a test a hundredth of a processor: only what hangs is
to be told by it.  Where time is the point of a test, it has limits of its own.
"""

HANG_SECONDS = 300.0
