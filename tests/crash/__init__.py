"""The crash explorer: power cuts at every write of thousands of workloads, in memory.

Theory.  A device promises only that what was written before a flush is there
after it.  Of the writes since then, any set may have arrived when the power
goes, in whole or in part by sectors.  So a *workload* (a list of requests) runs
once over a recording device, and each place in its events gives many *states*
of the medium.  Each state must keep the promises P1 and P2 of ARCHITECTURE.md:
the tree is that after some prefix of the requests, no shorter than what a sync
that returned has covered.  A filesystem in memory takes milliseconds to mount
and to check, and small workloads find what large ones do (J. Mohan et al.,
"Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing", OSDI 2018).

Everything is a function of its name.  ``WORKLOAD:COUNT:VARIANT`` is the state
after the first COUNT events of a workload, with the part of the unflushed
writes that VARIANT says; ``/COUNT:VARIANT`` after it is a second crash, in the
events of the mount that followed.  ``LFS_CRASH=ID pytest tests/crash`` and
``./check --crash --replay ID`` replay one alone.

- ``workloads.names`` names them: ``workloads.ace`` enumerates, ``workloads.pressure``
  fills the disk and makes the cleaner work, ``workloads.traces`` were recorded of real
  programs by ``workloads.tracing``.
- ``recording`` runs one, ``states`` makes the media, ``oracle`` judges them,
  ``explorer`` does it for many in worker processes and counts.
- ``power`` cuts the power of a running workload and goes on; ``damage`` flips bytes.
- ``canaries`` are filesystems that lack one safeguard: each must be caught.
"""
