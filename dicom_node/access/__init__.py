"""access: who may connect, as whom, and encrypted how; for the SCP, for deliveries and every web door.

``tls`` makes the contexts, ``certificates`` says how long they hold, ``rules`` and ``logins`` decide who
comes in, ``web`` is the login of an ASGI application, ``start`` looks at all of it before anything listens.
"""
