"""What a faulty disk is to do: a value, its text in netem's words, and the way between them.

``plan`` and ``rule`` are the value, ``grammar``, ``words`` and ``units`` its text (FAULTS.md).
"""
