"""What holds for all tests."""

import signal

# A shell has its background jobs ignore Ctrl-C, and all that they start does so, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
