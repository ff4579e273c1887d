"""What crosses borders: types, the vocabulary, random streams, errors, plug-ins."""
