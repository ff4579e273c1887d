"""The one pass drives -> encoder -> Zarr: identity, verification, resident splits.

layout.py says how bytes lie on disk, build.py writes them, cache.py reads them, catalogue.py lists them, verify.py
proves them.
"""
