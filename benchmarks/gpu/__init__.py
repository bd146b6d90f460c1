"""Everything worth measuring on a GPU, in one command: ``python -m benchmarks.gpu``. See ``README.md`` here."""
