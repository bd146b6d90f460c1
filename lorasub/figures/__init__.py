"""Pictures, by matplotlib only. Every function returns a ``matplotlib.figure.Figure`` and touches no global state."""
