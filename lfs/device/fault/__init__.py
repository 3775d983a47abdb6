"""A netem for disks: a block device that fails in every way a plan can say.

``plan`` is the frozen description of all of it, ``grammar`` reads one from
text (``words`` its words, ``units`` its numbers), FAULTS.md is the reference.
``device.FaultDevice`` runs a plan over any other block device:

    request ─▶ device (lock, power, pause, statistics)
                 ├─▶ faulty (refusals, lies)  ─▶ cache ─▶ medium below
                 └─▶ timing (delay, rate, slots, arm)

``chance`` has netem's generators, ``when`` the conditions of a rule, ``armed``
puts both together; ``clock`` is real time or a time that moves by itself.
"""
