"""What programs see: names, contents, attributes and access lists.

Theory.  Each module is one kind of request, made of inodes, windows and items below; none
knows when or where anything is written.  ``removal`` gives up in steps what is too much
for one request.
"""
