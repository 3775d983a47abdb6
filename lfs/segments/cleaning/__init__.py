"""Moving what lives: to get clean segments, and to put scattered files together.

Theory.  ``cleaner`` chooses runs that are worth it, and ``rounds`` empties them: ``survey``
finds what lives there, ``moving`` writes it elsewhere.  ``defragment`` moves files the
same way, for order.  ``compacting`` makes leaves of the inode map fewer.
"""
