"""How a mounted filesystem is asked what no system call asks: both ends of each question.

Answers are virtual extended attributes under ``system.lfs.``, which no listing shows.
"""
