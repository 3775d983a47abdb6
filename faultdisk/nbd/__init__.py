"""The NBD door: a fault device as an export of the Network Block Device protocol.

``protocol`` has the numbers and layouts and does nothing; ``stream`` moves bytes;
``handshake`` agrees on what follows; ``transmission`` serves requests, several
at a time; ``server`` accepts connections.

Source: the protocol's specification, ``doc/proto.md`` of NetworkBlockDevice/nbd.
Served is the fixed newstyle handshake without TLS, and of the transmission phase
everything but block status, caching hints and resizing.
"""
