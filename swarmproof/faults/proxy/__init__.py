"""The link proxy: TCP links whose behaviour can be changed in milliseconds while bytes flow through them.

    toxics.py      what can be asked of a link, in words (`latency=50ms±10ms`)
    pipeline.py    bytes in, bytes out later, fewer, more or changed: no sockets, no clock
    loop.py        one thread that waits for sockets and times
    stream.py      one direction of one connection
    link.py        a listening port, its connections, and what they carried
    control_port.py, __main__.py   the process that a supervisor owns
    alone.py       `swarmproof proxy`

It is a process of its own and not a thread of the supervisor, which runs the judge and polls nodes: sharing the
interpreter lock with those would show up as latency of the system under test. It runs on a plain `selectors` loop and
not on gevent: a proxy has nothing to block on, so greenlets would only add a switch to each packet, and without gevent
it starts in a tenth of a second.
"""
