"""How a mounted filesystem is asked what no system call asks: both ends of each question.

``door`` is the one way to ask (docs/design/control.md).  ``questions`` has what there is to
ask; answers that may be long, ``extents`` and ``log``, are told by parts or by their end.
"""
