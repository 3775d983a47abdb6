"""What all commands have in common: how they begin and end, and how they read their arguments.

``start`` is what runs around a command, from its first moment to its exit code;
``entries`` has the functions that the installed programs call; ``parser`` reads
command lines, ``notes`` are said beside results, and ``parts`` knows what need not be
installed.  Everything here is below the rest of the project.
"""
