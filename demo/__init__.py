"""The demo: tenants, applications, simulated phones, and the one routed call that `make run` makes."""
