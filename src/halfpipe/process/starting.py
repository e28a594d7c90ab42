"""Imported first by the programs of rules: Ctrl-C ends a program that is still starting without a traceback."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
