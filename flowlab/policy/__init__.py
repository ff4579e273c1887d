"""What is learnt: pure modules, a leading run axis R on every parameter. No I/O, no logging, no global randomness."""
