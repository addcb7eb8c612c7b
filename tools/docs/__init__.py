"""The generated pages of docs/: written by `make docs`, compared by a test."""
