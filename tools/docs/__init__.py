"""The pages of docs/ that follow from the code: written by `make docs`, compared by a test."""
