"""What is learnt: pure modules with a leading run axis. No I/O, no global randomness."""
