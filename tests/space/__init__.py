"""Loads that fill disks of many shapes, and what must hold on each (P4).

``load``: one run, told whole by its id.  ``__main__``: runs for as long as you like.
"""
