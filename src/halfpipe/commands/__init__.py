"""`halfpipe`, the one command for people: a module for each verb, loaded when it is asked for."""
