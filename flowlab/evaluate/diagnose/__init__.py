"""Looks at a finished policy, one question a file: facts, metric rows and a picture."""
