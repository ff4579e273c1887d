"""Which runs, from which caches, on which executor. START READING HERE, at run.py.

launch.py is `flowlab run` as a function, ground.py what runs are compared on, caches.py and encoders.py what they are
trained from.
"""
