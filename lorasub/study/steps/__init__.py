"""The steps of a study: each a plain function from its settings to files in its folder."""
