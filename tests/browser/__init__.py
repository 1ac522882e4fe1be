"""The page of a trace in a real browser. `make test-browser` runs these; `make test` does not."""
