"""What `make dev` runs: Dagster's UI and daemon on 127.0.0.1 and, without credentials, the bundled sample store."""
