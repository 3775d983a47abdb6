"""What a faulty disk is to do: a value, its text in netem's words, and the way between them.

``plan`` is the value, made of rules (``rule``) about time (``timing``), about what goes
wrong (``faults``) and about power (``power``); ``grammar``, ``words`` and ``units`` are its
text (FAULTS.md).
"""
