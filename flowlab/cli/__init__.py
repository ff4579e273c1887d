"""The command line: parse, call one function, render.

Nothing heavy is imported before a command needs it.
"""
