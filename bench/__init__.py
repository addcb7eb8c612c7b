"""The benchmark: this project and its peers against one server, in turn, in one session. `make bench` runs it."""
