"""Ledger views and stored draws become one self-contained HTML file, or a live page on this machine.

page.py puts it together; each of the other modules reads what one section shows.
"""
